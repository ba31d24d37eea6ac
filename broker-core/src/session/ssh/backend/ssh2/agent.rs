//! Whether the agent answers. libssh2 asks it without any limit, on the thread of the connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// `SSH_AGENTC_REQUEST_IDENTITIES`, as a whole message (draft-miller-ssh-agent): its length, and its number.
const LIST: [u8; 5] = [0, 0, 0, 1, 11];

/// Asks the agent for its identities, as libssh2 will.
///
/// # Errors
///
/// If it is not there, or does not answer within the limit.
pub(super) fn answers(socket: &Path, limit: Duration) -> io::Result<()> {
    let mut agent = UnixStream::connect(socket)?;
    agent.set_read_timeout(Some(limit))?;
    agent.set_write_timeout(Some(limit))?;
    agent.write_all(&LIST)?;
    // How long the answer is. What it says is heard when libssh2 asks.
    agent.read_exact(&mut [0; 4])
}
