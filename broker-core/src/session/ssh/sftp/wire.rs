//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), with OpenSSH's extensions.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest packet that is taken from a server: OpenSSH's own limit for what is sent to it.
const MOST: usize = 256 * 1024 + 1024;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::session::ssh) enum Kind {
    Init = 1,
    Open = 3,
    Close = 4,
    Read = 5,
    Write = 6,
    Lstat = 7,
    Setstat = 9,
    Fsetstat = 10,
    Opendir = 11,
    Readdir = 12,
    Remove = 13,
    Mkdir = 14,
    Stat = 17,
    Rename = 18,
    Readlink = 19,
    Symlink = 20,
    Extended = 200,
}

/// Flags of `Open`.
pub(in crate::session::ssh) const READ: u32 = 0x01;
pub(in crate::session::ssh) const WRITE: u32 = 0x02;
pub(in crate::session::ssh) const CREATE: u32 = 0x08;
pub(in crate::session::ssh) const EXCLUSIVE: u32 = 0x20;

/// The bits of a mode that tell what kind of thing it is of, and what they are of a directory.
pub(in crate::session::ssh) const KIND: u32 = 0o170_000;
pub(in crate::session::ssh) const DIRECTORY: u32 = 0o040_000;

/// What a server says about a file. What it does not say is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::session::ssh) struct Attributes {
    pub(in crate::session::ssh) size: Option<u64>,
    /// The kind of file and its permission bits, as in `st_mode`.
    pub(in crate::session::ssh) mode: Option<u32>,
    /// When it was last changed, in seconds since 1970.
    pub(in crate::session::ssh) modified: Option<u32>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session::ssh) struct Name {
    pub(in crate::session::ssh) name: Bytes,
    pub(in crate::session::ssh) attributes: Attributes,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session::ssh) enum Reply {
    Version { version: u32, extensions: Vec<(Bytes, Bytes)> },
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// A packet that makes no sense, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer makes no sense: {0}")]
pub(in crate::session::ssh) struct Nonsense(&'static str);

const SHORT: Nonsense = Nonsense("it is too short");

/// A request on its way: fields are added in their order.
pub(in crate::session::ssh) struct Request(BytesMut);

impl Request {
    /// A request with a number, by which its answer is known. `Init` has the version in its place.
    pub(in crate::session::ssh) fn new(kind: Kind, id: u32) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        bytes.put_u8(kind as u8);
        bytes.put_u32(id);
        Self(bytes)
    }

    pub(in crate::session::ssh) fn number(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(in crate::session::ssh) fn long(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub(in crate::session::ssh) fn text(mut self, bytes: &[u8]) -> Self {
        // Longer than a packet may be is longer than a path or a piece ever is.
        self.0.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.put_slice(bytes);
        self
    }

    /// Permission bits and the time of the last change, which is also that of the last use.
    pub(in crate::session::ssh) fn attributes(mut self, mode: Option<u32>, modified: Option<u32>) -> Self {
        let flags = if mode.is_some() { 0x04 } else { 0 } | if modified.is_some() { 0x08 } else { 0 };
        self.0.put_u32(flags);
        if let Some(mode) = mode {
            self.0.put_u32(mode);
        }
        if let Some(modified) = modified {
            self.0.put_u32(modified);
            self.0.put_u32(modified);
        }
        self
    }

    /// The whole packet.
    pub(in crate::session::ssh) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.0.freeze()
    }
}

/// Takes the next whole packet from what has come so far: its number and what it says. Nothing where it is not whole yet.
pub(in crate::session::ssh) fn take(buffer: &mut BytesMut) -> Result<Option<(u32, Reply)>, Nonsense> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MOST {
        return Err(Nonsense("it is too long"));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    reply(buffer.split_to(length).freeze()).map(Some)
}

fn reply(mut packet: Bytes) -> Result<(u32, Reply), Nonsense> {
    let kind = packet.try_get_u8().map_err(|_| SHORT)?;
    let id = number(&mut packet)?;
    let reply = match kind {
        2 => {
            let mut extensions = Vec::new();
            while !packet.is_empty() {
                extensions.push((text(&mut packet)?, text(&mut packet)?));
            }
            Reply::Version { version: id, extensions }
        }
        101 => {
            let code = number(&mut packet)?;
            // Old servers leave the words out.
            let message = if packet.is_empty() { Bytes::new() } else { text(&mut packet)? };
            Reply::Status { code, message: String::from_utf8_lossy(&message).into_owned() }
        }
        102 => Reply::Handle(text(&mut packet)?),
        103 => Reply::Data(text(&mut packet)?),
        104 => {
            let count = number(&mut packet)?;
            let mut names = Vec::new();
            for _ in 0..count {
                let name = text(&mut packet)?;
                // A line as `ls -l` prints it, for people.
                text(&mut packet)?;
                names.push(Name { name, attributes: attributes(&mut packet)? });
            }
            Reply::Names(names)
        }
        105 => Reply::Attributes(attributes(&mut packet)?),
        201 => Reply::Extended(packet),
        _ => return Err(Nonsense("it is of a kind that does not exist")),
    };
    Ok((id, reply))
}

fn attributes(packet: &mut Bytes) -> Result<Attributes, Nonsense> {
    let flags = number(packet)?;
    let mut found = Attributes::default();
    if flags & 0x01 != 0 {
        found.size = Some(packet.try_get_u64().map_err(|_| SHORT)?);
    }
    if flags & 0x02 != 0 {
        // Whose it is.
        packet.try_get_u64().map_err(|_| SHORT)?;
    }
    if flags & 0x04 != 0 {
        found.mode = Some(number(packet)?);
    }
    if flags & 0x08 != 0 {
        // When it was last used.
        number(packet)?;
        found.modified = Some(number(packet)?);
    }
    if flags & 0x8000_0000 != 0 {
        for _ in 0..number(packet)? {
            text(packet)?;
            text(packet)?;
        }
    }
    Ok(found)
}

pub(in crate::session::ssh) fn number(packet: &mut Bytes) -> Result<u32, Nonsense> {
    packet.try_get_u32().map_err(|_| SHORT)
}

pub(in crate::session::ssh) fn text(packet: &mut Bytes) -> Result<Bytes, Nonsense> {
    let length = usize::try_from(number(packet)?).unwrap_or(usize::MAX);
    if length > packet.len() { Err(SHORT) } else { Ok(packet.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(kind: u8, rest: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(rest.len()).unwrap() + 5);
        bytes.put_u8(kind);
        bytes.put_u32(7);
        bytes.put_slice(rest);
        bytes
    }

    #[test]
    fn requests_have_the_form_of_the_draft() {
        let open = Request::new(Kind::Open, 1).text(b"a/b").number(READ).attributes(Some(0o644), None).finish();
        let wanted =
            b"\x00\x00\x00\x18\x03\x00\x00\x00\x01\x00\x00\x00\x03a/b\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x01\xa4";
        assert_eq!(open.as_ref(), wanted);
    }

    #[test]
    fn replies_are_read_in_pieces() {
        let whole = packet(103, b"\x00\x00\x00\x03abc");
        let mut buffer = BytesMut::new();
        for (place, byte) in whole.iter().enumerate() {
            buffer.put_u8(*byte);
            let taken = take(&mut buffer).unwrap();
            assert_eq!(taken.is_some(), place + 1 == whole.len());
            if let Some(taken) = taken {
                assert_eq!(taken, (7, Reply::Data(Bytes::from_static(b"abc"))));
            }
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        assert!(take(&mut BytesMut::from(&b"\xff\xff\xff\xff\x65"[..])).is_err());
        assert!(take(&mut packet(103, b"\xff\xff\xff\xffabc")).is_err());
        assert!(take(&mut packet(104, b"\xff\xff\xff\xff")).is_err());
        assert!(take(&mut packet(105, b"\x80\x00\x00\x00\xff\xff\xff\xff")).is_err());
        assert!(take(&mut packet(99, b"")).is_err());
    }

    #[test]
    fn a_status_without_words_is_one() {
        let (_, reply) = take(&mut packet(101, b"\x00\x00\x00\x02")).unwrap().unwrap();
        assert_eq!(reply, Reply::Status { code: 2, message: String::new() });
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 100_u8..106) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            drop(take(&mut buffer));
            let mut framed = packet(kind, &bytes);
            drop(take(&mut framed));
        }
    }
}
