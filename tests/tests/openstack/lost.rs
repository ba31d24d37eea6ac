//! Orders to make something whose answers do not come, or say nothing: what was made is found, and is made once.

use broker_tests::openstack::{Kind, Service, Spoil, Way};
use broker_tests::wait;
use rustix::process::Signal;
use serde_json::json;

use crate::Lab;

const ORDER: &str = "checkout --ostack-image tiny --ostack-wait active --ostack-floating-network public";

fn outside() -> Lab {
    let lab = Lab::new();
    lab.project().connect_outside();
    lab
}

const fn post(path: &'static str, arrives: bool) -> Kind {
    Kind { method: "POST", path, arrives }
}

fn floating_addresses(lab: &Lab) -> usize {
    let all = lab.project().user.get_json(Service::Network, "/floatingips");
    all["floatingips"].as_array().unwrap().len()
}

#[test]
fn what_was_made_without_an_answer_is_found() {
    let lab = outside();
    let cases = [
        ("os-keypairs", Spoil::Cut),
        ("servers", Spoil::Cut),
        ("servers", Spoil::Status(503)),
        ("servers", Spoil::Garbled),
        ("floatingips", Spoil::Cut),
        ("floatingips", Spoil::Garbled),
    ];
    for (count, (path, how)) in cases.into_iter().enumerate() {
        let asked = || lab.wire.asked("POST", path).len();
        let before = asked();
        lab.wire.lead(Way::Spoilt { what: post(path, true), how, times: 1 });
        lab.broker(ORDER);
        assert_eq!(asked(), before + 1, "{path}, {how:?}: it was asked for again");
        let there = (lab.project().servers().len(), lab.project().keypairs().len(), floating_addresses(&lab));
        assert_eq!(there, (count + 1, count + 1, count + 1), "{path}, {how:?}");
    }
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}

#[test]
fn what_may_have_been_made_and_is_not_found_is_not_forgotten() {
    let lab = outside();
    // There can be only one key pair of a name, so that asking again makes no second one.
    lab.wire.lead(Way::Spoilt { what: post("os-keypairs", false), how: Spoil::Status(500), times: 1 });
    lab.broker(ORDER);
    assert_eq!((lab.wire.asked("POST", "os-keypairs").len(), lab.project().keypairs().len()), (2, 1));
    lab.broker("checkin --all --yes");
    for (path, how, says) in [
        ("servers", Spoil::Status(502), "could not make server"),
        ("floatingips", Spoil::Cut, "could not take a floating address"),
    ] {
        lab.wire.lead(Way::Spoilt { what: post(path, false), how, times: 1 });
        let said = lab.fails(ORDER, 7);
        assert!(said.contains(says), "{said}");
        // Nothing shows, and yet it may come.
        assert!(lab.project().hosts().is_empty());
        let left = lab.inventory();
        assert_eq!((left.len(), &left[0]["state"]), (1, &json!("failed")), "{left:?}");
        lab.broker("checkin --all --yes");
    }
    lab.nothing_is_left();
}

/// The address comes into being when the order is not wanted any more, and is given back all the same.
#[test]
fn an_address_that_is_asked_for_when_the_checkout_is_cancelled_is_given_back() {
    let lab = outside();
    lab.wire.lead(Way::Late(post("floatingips", false)));
    let mut broker = lab.env.start(ORDER.split_whitespace());
    wait::until("the address to be asked for", || lab.wire.has_held() || broker.has_ended());
    let looks = || lab.wire.asked("GET", "floatingips").len() + lab.wire.asked("DELETE", "servers/*").len();
    let before = looks();
    broker.signal(Signal::INT);
    // Whoever does not wait for the answer takes back what there is, and looks for addresses before this one is there.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while looks() == before && std::time::Instant::now() < end {
        std::thread::sleep(wait::PERIOD);
    }
    lab.wire.lead(Way::Fair);
    broker.wait(wait::SOON).expect(130);
    assert_eq!(floating_addresses(&lab), 0);
    lab.nothing_is_left();
}

/// What a batch names is looked at once, however many hosts it is for.
#[test]
fn a_batch_is_looked_at_once() {
    let lab = Lab::new();
    lab.broker("checkout --ostack-image tiny --ostack-wait active --ostack-key-name case-key --count 3");
    for path in ["os-keypairs/case-key", "flavors/detail", "limits", "images", "networks"] {
        assert_eq!(lab.wire.asked("GET", path).len(), 1, "{path}");
    }
    assert_eq!(lab.wire.asked("POST", "servers").len(), 3);
    lab.broker("checkin --all --yes");
    lab.nothing_is_left();
}
