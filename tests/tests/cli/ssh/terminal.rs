//! Shells and commands on a terminal.

use broker_tests::env::program;

use super::Lab;
use crate::support::Outcome;

/// `broker LINE` on a terminal of 40 lines and 120 columns. The keys are a script that prints them, and `meanwhile` one
/// that runs beside it on the same terminal. `ready` in them waits for the file of that name in the working directory.
fn typed(lab: &Lab, line: &str, keys: &str, meanwhile: &str) -> Outcome {
    let ready = "ready() { until test -e ready; do sleep 0.1; done; }";
    let own = format!("{ready}\nstty rows 40 cols 120\n({meanwhile}) &\nexec '{}' {line}\n", program().display());
    lab.env.write("own", &own);
    lab.env.script(&format!("{ready}\n({keys}) | script -qec 'sh own' /dev/null")).run()
}

/// A script that is there for the command too, as it is on this machine. `ready` in it lets the keys begin.
fn script(lab: &Lab, text: &str) -> String {
    lab.env.write("script", &text.replace("ready", &format!("touch '{}'", lab.env.work_path("ready").display())));
    lab.env.work_path("script").display().to_string()
}

#[test]
fn a_shell() {
    let lab = Lab::new();
    lab.check_out("");
    // Until it is heard: a terminal that becomes raw forgets what was typed before.
    let ready = lab.env.work_path("ready");
    let keys = format!(
        "until test -e ready; do echo 'touch {}'; sleep 0.5; done; \
         echo 'tty; stty size; echo answer-$((40 + 2)); exit 3'; sleep 3",
        ready.display()
    );
    let outcome = typed(&lab, "shell 0", &keys, ":").passes_on(3);
    for text in ["answer-42", "/dev/pts/", "40 120"] {
        assert!(outcome.out().contains(text), "no {text}: {outcome}");
    }
    // And without a terminal.
    let outcome = lab.env.call("shell 0").input("echo $((40 + 2))\nexit 4\n").run().passes_on(4);
    assert_eq!(outcome.out(), "42\n");
}

#[test]
fn control_c_is_the_commands() {
    let lab = Lab::new();
    lab.check_out("");
    let text = "trap 'echo interrupted; exit 5' INT\nready\nwhile :; do sleep 0.1; done\n";
    let line = format!("exec -i -t 0 -- sh {}", script(&lab, text));
    let outcome = typed(&lab, &line, "ready; printf '\\003'; sleep 3", ":").passes_on(5);
    assert!(outcome.out().contains("interrupted"), "{outcome}");
}

#[test]
fn control_c_is_ours_while_nobody_answers() {
    let mut lab = Lab::new();
    let silent = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    lab.env.check_out(&format!("--test-ssh {}", silent.local_addr().unwrap()));
    lab.env.set("BROKER_ssh__boot_patience", "0s");
    let ready = lab.env.work_path("ready");
    let listening = std::thread::spawn(move || {
        let connection = silent.accept().unwrap();
        std::fs::write(ready, "").unwrap();
        // Until we are hung up on.
        let _read = std::io::copy(&mut &connection.0, &mut std::io::sink());
    });
    typed(&lab, "exec -i -t 0 -- true", "ready; printf '\\003'; sleep 2", ":").passes_on(130);
    listening.join().unwrap();
}

#[test]
fn a_terminal_only_where_it_is_asked_for() {
    let lab = Lab::new();
    lab.check_out("");
    let tty = lab.env.broker("exec -t 0 -- tty").passes_on(0);
    assert!(tty.out().contains("/dev/"), "{tty}");
    lab.env.broker("exec 0 -- tty").passes_on(1).prints("not a tty");
}

#[test]
fn a_window_that_changes_its_size() {
    let lab = Lab::new();
    lab.check_out("");
    let text = "trap 'stty size; exit 6' WINCH\nready\nfor _ in $(seq 100); do sleep 0.1; done\n";
    let line = format!("exec -i -t 0 -- sh {}", script(&lab, text));
    // What runs beside a shell has no terminal as its input.
    let outcome = typed(&lab, &line, "ready; sleep 3", "ready; stty rows 50 cols 100 </dev/tty").passes_on(6);
    assert!(outcome.out().contains("50 100"), "{outcome}");
}
