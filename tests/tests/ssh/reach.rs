//! Getting to a server at all.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use broker_core::session::SessionErrorKind;
use broker_core::session::ssh::{Families, HostKeyPolicy, SshLimits, SshTarget, connect};
use broker_tests::ssh::{Flow, Server, Setup, Wire};
use broker_tests::wait;

use crate::support::{
    backend, block, gets_in, is_kept_out, output, target, target_at, this_test, where_names_are, without_a_network,
};

/// Is kept out because the server is not reached, within a time that nobody minds.
#[track_caller]
fn not_reached(target: &SshTarget) -> String {
    let begun = Instant::now();
    let said = is_kept_out(target, SessionErrorKind::Unreachable);
    assert!(begun.elapsed() < wait::SOON, "{:?}: {said}", begun.elapsed());
    said
}

#[test]
fn nobody_listens() {
    let server = Setup::openssh().prepare();
    let begun = Instant::now();
    let said = not_reached(&target(&server));
    assert!(begun.elapsed() < Duration::from_secs(5), "without patience that is said at once");
    assert!(said.contains("refuses"), "{said}");
    assert!(said.contains("127.0.0.1") && said.contains(&server.port().to_string()), "{said}");
}

#[test]
fn nobody_has_that_name() {
    let server = Setup::openssh().prepare();
    let said = not_reached(&SshTarget { address: "no-such-host.invalid".to_owned(), ..target(&server) });
    assert!(said.contains("no-such-host.invalid"), "{said}");
}

#[test]
fn nobody_answers() {
    let server = Setup::openssh().prepare();
    // An address for documentation, which nobody has.
    let limits = SshLimits { connect: Duration::from_millis(500), ..SshLimits::default() };
    let begun = Instant::now();
    let said = not_reached(&SshTarget { address: "192.0.2.1".to_owned(), limits, ..target(&server) });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(said.contains("192.0.2.1"), "{said}");
}

#[test]
fn something_else_listens() {
    let server = Setup::openssh().prepare();
    for greeting in ["HTTP/1.0 400 Bad Request\r\n\r\n", "", "220 mail ESMTP\r\n", "\0\u{1}\u{2}"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Until the other side hangs up.
            drop(stream.read_to_end(&mut Vec::new()));
        });
        let said = not_reached(&target_at(&server, at));
        assert!(said.contains("127.0.0.1"), "{greeting:?}: {said}");
        other.join().unwrap();
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let server = Setup::openssh().start();
    let wire = Wire::to(server.address());
    wire.set(Flow::Frozen);
    let limits = SshLimits { handshake: Duration::from_secs(1), ..SshLimits::default() };
    let begun = Instant::now();
    let error = block(connect(&SshTarget { limits, ..target_at(&server, wire.address()) })).err().unwrap();
    let kinds = [SessionErrorKind::Unreachable, SessionErrorKind::Timeout];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(broker_core::error_chain(&error).contains("1s"), "{}", broker_core::error_chain(&error));
}

#[test]
fn a_slow_way_is_no_trouble() {
    let server = Setup::openssh().start();
    let wire = Wire::delayed(server.address(), Duration::from_millis(100));
    gets_in(&target_at(&server, wire.address()));
}

#[test]
fn a_machine_that_boots_is_waited_for() {
    let server = Setup::openssh().prepare();
    let limits = SshLimits { patience: Duration::from_secs(60), ..SshLimits::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            server.start();
        });
        gets_in(&SshTarget { limits: limits.clone(), ..target(&server) });
    });
    // One that takes connections and hangs up, as a server that is not ready yet.
    let wire = Wire::to(server.address());
    wire.set(Flow::Cut);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait::until("several attempts", || wire.made() > 2);
            wire.set(Flow::Delayed(Duration::ZERO));
        });
        gets_in(&SshTarget { limits: limits.clone(), ..target_at(&server, wire.address()) });
    });
}

#[test]
fn patience_comes_to_an_end() {
    let server = Setup::openssh().prepare();
    let limits = SshLimits { patience: Duration::from_secs(2), ..SshLimits::default() };
    let begun = Instant::now();
    let said = not_reached(&SshTarget { limits: limits.clone(), ..target(&server) });
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}: {said}", begun.elapsed());
    assert!(said.contains("2s") && said.contains("refuses"), "{said}");
    // A host that is there and lets nobody in will not change its mind.
    server.start();
    let begun = Instant::now();
    let limits = SshLimits { patience: Duration::from_secs(60), ..SshLimits::default() };
    let nobody = SshTarget { credentials: Vec::new(), limits, ..target(&server) };
    is_kept_out(&nobody, SessionErrorKind::Auth);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn every_address_of_a_name_is_tried() {
    // The server listens at 127.0.0.1 alone, and `localhost` may be ::1 too.
    let server = Setup::openssh().start();
    let at = |families| SshTarget { address: "localhost".to_owned(), families, ..target(&server) };
    gets_in(&at(Families::Ipv4));
    gets_in(&at(Families::Ipv6First));
    let said = not_reached(&at(Families::Ipv6));
    assert!(said.contains("localhost") || said.contains("::1"), "{said}");
}

#[test]
fn a_connection_that_nobody_waits_for_is_given_up() {
    let server = Setup::openssh().start();
    let wire = Wire::delayed(server.address(), Duration::from_millis(100));
    let target = target_at(&server, wire.address());
    block(async {
        for limit in [0, 50, 150, 250, 350, 450, 550, 650] {
            let outcome = tokio::time::timeout(Duration::from_millis(limit), connect(&target)).await;
            assert!(outcome.is_err(), "{limit} ms are enough?");
        }
        let connected = connect(&target).await.unwrap();
        assert_eq!(output(&*connected.session, "echo in").await, "in\n");
    });
    wait::until("the others to be gone", || server.connections() == 0);
}

/// The server by a name of it.
fn named(server: &Server, name: &str, families: Families) -> SshTarget {
    SshTarget { address: name.to_owned(), families, ..target(server) }
}

#[test]
fn over_ipv6() {
    let server = Setup::openssh().listens_at(Ipv6Addr::LOCALHOST).start();
    // An address says by itself of which kind it is.
    for families in [Families::Ipv4, Families::Ipv6, Families::Ipv6First] {
        let connected = gets_in(&SshTarget { families, ..target(&server) });
        let ends = block(output(&*connected.session, "echo $SSH_CONNECTION"));
        assert!(ends.starts_with("::1 "), "{ends}");
    }
    server.stop();
    let said = not_reached(&target(&server));
    assert!(said.contains(&format!("`[::1]:{}` refuses connections", server.port())), "{said}");
}

#[test]
fn a_name_with_addresses_of_both_kinds() {
    let hosts = "127.0.0.1 both-kinds\n::1 both-kinds\n127.0.0.1 one-kind\n";
    if where_names_are(this_test!(a_name_with_addresses_of_both_kinds), hosts) {
        return;
    }
    let four = Setup::openssh().start();
    gets_in(&named(&four, "both-kinds", Families::Ipv4));
    gets_in(&named(&four, "both-kinds", Families::Ipv6First));
    let said = not_reached(&named(&four, "both-kinds", Families::Ipv6));
    assert!(said.contains("`[::1]:") && !said.contains("127.0.0.1"), "{said}");

    let six = Setup::openssh().listens_at(Ipv6Addr::LOCALHOST).start();
    gets_in(&named(&six, "both-kinds", Families::Ipv6));
    gets_in(&named(&six, "both-kinds", Families::Ipv6First));
    let said = not_reached(&named(&six, "both-kinds", Families::Ipv4));
    assert!(said.contains("`127.0.0.1:") && !said.contains("::1"), "{said}");

    let said = not_reached(&named(&four, "one-kind", Families::Ipv6));
    assert!(said.contains("`one-kind` has no IPv6 address, only `127.0.0.1`"), "{said}");
    // All that were tried are named with what they did.
    four.stop();
    let said = not_reached(&named(&four, "both-kinds", Families::Ipv6First));
    let port = four.port();
    for address in [format!("`[::1]:{port}` refuses"), format!("`127.0.0.1:{port}` refuses")] {
        assert!(said.contains(&address), "{said}");
    }
}

/// Takes none of the connections that are made there, and refuses none: its queue is full.
fn mute(at: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind(at).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(300)) {
        held.push(stream);
    }
    (listener, held)
}

#[test]
fn a_dead_address_does_not_hold_up_the_next() {
    // The system puts the address first that is nearer to its own.
    let hosts = "127.0.0.1 two-addresses\n127.0.0.9 two-addresses\n";
    if where_names_are(this_test!(a_dead_address_does_not_hold_up_the_next), hosts) {
        return;
    }
    let server = Setup::openssh().listens_at(Ipv4Addr::new(127, 0, 0, 9)).start();
    let target = named(&server, "two-addresses", Families::Ipv4);
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let found: Vec<SocketAddr> = ("two-addresses", server.port()).to_socket_addrs().unwrap().collect();
    assert_eq!(found, [dead, server.address()]);
    // One that refuses, and one that does not answer.
    gets_in(&target);
    let _mute = mute(dead);
    let begun = Instant::now();
    let patient = SshLimits { connect: Duration::from_secs(150), ..SshLimits::default() };
    gets_in(&SshTarget { limits: patient, ..target.clone() });
    assert!(begun.elapsed() < wait::SOON, "{:?}", begun.elapsed());

    server.stop();
    let hasty = SshLimits { connect: Duration::from_millis(500), ..SshLimits::default() };
    let said = not_reached(&SshTarget { limits: hasty, ..target });
    let (dead, refusing) = (format!("`{dead}` does not answer within 500ms"), server.address());
    assert!(said.contains(&dead) && said.contains(&format!("`{refusing}` refuses")), "{said}");
}

#[test]
fn there_is_no_way_there() {
    if without_a_network(this_test!(there_is_no_way_there)) {
        return;
    }
    for (address, shown) in [("192.0.2.1", "192.0.2.1:22"), ("2001:db8::1", "[2001:db8::1]:22")] {
        let said = not_reached(&SshTarget {
            label: "lab-host".to_owned(),
            address: address.to_owned(),
            port: 22,
            user: "nobody".to_owned(),
            credentials: Vec::new(),
            host_key: HostKeyPolicy::AcceptNew,
            families: Families::default(),
            jump: None,
            limits: SshLimits::default(),
            backend: backend(),
        });
        assert!(said.contains(&format!("there is no way to `{shown}`")), "{said}");
    }
}
