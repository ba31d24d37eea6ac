//! Serves the AWX of the tests by hand: `awx [PORT]`, 8052 if nothing is said. It prints where it is and a token of
//! `rigger`, and serves [`World::lab`] until it is ended. `/_control/` works as well.

use std::io::Write as _;
use std::process::ExitCode;

use broker_tests::awx::{Awx, World, password_of};

fn main() -> ExitCode {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8052".to_owned());
    let Ok(port) = port.parse() else {
        drop(writeln!(std::io::stderr(), "`{port}` is no port"));
        return ExitCode::from(2);
    };
    let awx = Awx::start_at(World::lab(), port, None);
    let (url, token, password) = (awx.url(), awx.token_of("rigger"), password_of("rigger"));
    let said = writeln!(std::io::stdout(), "base_url: {url}\nusername: rigger\npassword: {password}\ntoken: {token}");
    if said.is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::park();
    }
}
