//! The errors of libssh2.

use ssh2::{Error, ErrorCode};

const KEX_FAILURE: i32 = -5;
const KEY_EXCHANGE_FAILURE: i32 = -8;
const TIMEOUT: i32 = -9;
const SOCKET_DISCONNECT: i32 = -13;
const PASSWORD_EXPIRED: i32 = -15;
const METHOD_NONE: i32 = -17;
const AUTHENTICATION_FAILED: i32 = -18;
const PUBLICKEY_UNVERIFIED: i32 = -19;
const CHANNEL_FAILURE: i32 = -21;
const REQUEST_DENIED: i32 = -22;
const EAGAIN: i32 = -37;
const SOCKET_RECV: i32 = -43;
const SOCKET_SEND: i32 = -7;

/// What an error of libssh2 means for whoever gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing yet: the same call again, when the socket is ready.
    Again,
    /// The server has said no to a channel or to a request on one.
    Refused,
    /// The server has not answered in time.
    Late,
    /// There is no algorithm that both sides have.
    NoAlgorithm,
    /// The keys could not be exchanged all the same.
    BadExchange,
    /// The server does not let us in with this.
    NotLetIn,
    /// The server has none of the signatures that the key can make.
    NoSignature,
    /// The password has to be changed first.
    Expired,
    /// The other side has closed the connection, or it broke.
    HungUp,
    /// Everything else, after which nothing can be expected of the connection.
    Other,
}

/// What an error means.
pub(super) fn meaning(error: &Error) -> Meaning {
    let ErrorCode::Session(code) = error.code() else { return Meaning::Other };
    match code {
        EAGAIN => Meaning::Again,
        CHANNEL_FAILURE | REQUEST_DENIED => Meaning::Refused,
        TIMEOUT => Meaning::Late,
        KEX_FAILURE => Meaning::NoAlgorithm,
        KEY_EXCHANGE_FAILURE => Meaning::BadExchange,
        // A login that is cut off has the same code as one that is refused.
        AUTHENTICATION_FAILED | PUBLICKEY_UNVERIFIED if error.message().starts_with("Waiting for") => Meaning::HungUp,
        AUTHENTICATION_FAILED | PUBLICKEY_UNVERIFIED => Meaning::NotLetIn,
        METHOD_NONE => Meaning::NoSignature,
        PASSWORD_EXPIRED => Meaning::Expired,
        SOCKET_DISCONNECT | SOCKET_RECV | SOCKET_SEND => Meaning::HungUp,
        _ => Meaning::Other,
    }
}

/// Whether there is nothing to do but to wait.
pub(super) fn is_again(error: &Error) -> bool {
    meaning(error) == Meaning::Again
}
