//! The terminal that we run in.

use std::io::{self, IsTerminal};

use broker::session::PtySize;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcgetwinsize, tcsetattr,
};

/// Hands every key to the command on the host, until it is dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Begins, if standard input is a terminal.
    pub(crate) fn begin() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Gives the terminal its settings and its cursor back when it is dropped, whatever a question has made of them.
pub(crate) struct Restored {
    before: Option<Termios>,
}

impl Restored {
    pub(crate) fn at_the_end() -> Self {
        Self { before: tcgetattr(io::stdin()).ok() }
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _gone = dialoguer::console::Term::stderr().show_cursor();
        if let Some(before) = &self.before {
            let _gone = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// The size of the terminal, where there is one.
pub(crate) fn size() -> Option<PtySize> {
    let found = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (found.ws_col > 0 && found.ws_row > 0).then_some(PtySize { columns: found.ws_col, rows: found.ws_row })
}

/// How the terminal is set, where there is one, as the opcodes and values of RFC 4254, section 8. To be asked before it
/// is raw.
pub(crate) fn modes() -> Vec<(u8, u32)> {
    tcgetattr(io::stdin()).or_else(|_| tcgetattr(io::stdout())).map(|termios| encoded(&termios)).unwrap_or_default()
}

fn encoded(termios: &Termios) -> Vec<(u8, u32)> {
    use SpecialCodeIndex as Key;

    /// A key that does nothing: here, and on the way.
    const NO_KEY: (u8, u32) = (0, 255);

    let keys = [
        (1, Key::VINTR),
        (2, Key::VQUIT),
        (3, Key::VERASE),
        (4, Key::VKILL),
        (5, Key::VEOF),
        (6, Key::VEOL),
        (7, Key::VEOL2),
        (8, Key::VSTART),
        (9, Key::VSTOP),
        (10, Key::VSUSP),
        (12, Key::VREPRINT),
        (13, Key::VWERASE),
        (14, Key::VLNEXT),
        (18, Key::VDISCARD),
    ];
    let keys = keys.into_iter().map(|(opcode, key)| match termios.special_codes[key] {
        byte if byte == NO_KEY.0 => (opcode, NO_KEY.1),
        byte => (opcode, u32::from(byte)),
    });
    let (input, local) = (termios.input_modes, termios.local_modes);
    let (output, control) = (termios.output_modes, termios.control_modes);
    let is_set = [
        (30, input.contains(InputModes::IGNPAR)),
        (31, input.contains(InputModes::PARMRK)),
        (32, input.contains(InputModes::INPCK)),
        (33, input.contains(InputModes::ISTRIP)),
        (34, input.contains(InputModes::INLCR)),
        (35, input.contains(InputModes::IGNCR)),
        (36, input.contains(InputModes::ICRNL)),
        (38, input.contains(InputModes::IXON)),
        (39, input.contains(InputModes::IXANY)),
        (40, input.contains(InputModes::IXOFF)),
        (41, input.contains(InputModes::IMAXBEL)),
        #[cfg(target_os = "linux")]
        (42, input.contains(InputModes::IUTF8)),
        (50, local.contains(LocalModes::ISIG)),
        (51, local.contains(LocalModes::ICANON)),
        (53, local.contains(LocalModes::ECHO)),
        (54, local.contains(LocalModes::ECHOE)),
        (55, local.contains(LocalModes::ECHOK)),
        (56, local.contains(LocalModes::ECHONL)),
        (57, local.contains(LocalModes::NOFLSH)),
        (58, local.contains(LocalModes::TOSTOP)),
        (59, local.contains(LocalModes::IEXTEN)),
        (60, local.contains(LocalModes::ECHOCTL)),
        (61, local.contains(LocalModes::ECHOKE)),
        (70, output.contains(OutputModes::OPOST)),
        (72, output.contains(OutputModes::ONLCR)),
        (73, output.contains(OutputModes::OCRNL)),
        (74, output.contains(OutputModes::ONOCR)),
        (75, output.contains(OutputModes::ONLRET)),
        (90, control & ControlModes::CSIZE == ControlModes::CS7),
        (91, control & ControlModes::CSIZE == ControlModes::CS8),
        (92, control.contains(ControlModes::PARENB)),
        (93, control.contains(ControlModes::PARODD)),
    ];
    let speeds = [(128, termios.input_speed()), (129, termios.output_speed())];
    keys.chain(is_set.map(|(opcode, is_set)| (opcode, u32::from(is_set)))).chain(speeds).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn modes_are_those_of_the_terminal() {
        // A terminal of our own, whatever this runs in.
        let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        let mut termios = tcgetattr(&terminal).unwrap();
        termios.local_modes = LocalModes::ISIG | LocalModes::ICANON;
        termios.input_modes = InputModes::ICRNL;
        termios.special_codes[SpecialCodeIndex::VINTR] = 3;
        termios.special_codes[SpecialCodeIndex::VEOL] = 0;
        let modes: HashMap<u8, u32> = encoded(&termios).into_iter().collect();
        for (opcode, value) in [(1, 3), (6, 255), (36, 1), (38, 0), (50, 1), (51, 1), (53, 0), (91, 1), (90, 0)] {
            assert_eq!(modes[&opcode], value, "{opcode}");
        }
        assert!(modes.keys().all(|opcode| *opcode < 160), "others are no modes");
        assert_eq!(modes.len(), encoded(&termios).len());
    }
}
