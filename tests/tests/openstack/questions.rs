//! `broker providers OpenStack`.

use crate::Lab;

#[test]
fn what_a_cloud_offers_is_shown() {
    let lab = Lab::with("templates: {small: {image: tiny, flavor: m1.tiny}}");
    for (question, parts) in [
        ("--images", &["tiny", "active", "256.0 KiB"][..]),
        ("--image tiny", &["active", "disk at the least", "1 GiB"]),
        ("--flavors", &["m1.nano", "192"]),
        ("--flavor m1.tiny", &["MiB of memory", "512"]),
        ("--networks", &["case-net", "public"]),
        ("--network public", &["external", "yes"]),
        ("--templates", &["small", "m1.tiny"]),
        ("--template small", &["ostack_image", "tiny"]),
        ("--keypairs", &["case-key"]),
        ("--keypair case-key", &["ssh-ed25519", "fingerprint"]),
        ("--security-groups", &["default"]),
        ("--security-group default", &["ingress", "egress"]),
        ("--quota", &["servers", "100", "floating addresses"]),
    ] {
        let shown = lab.broker(&format!("providers OpenStack {question}"));
        assert!(parts.iter().all(|part| shown.stdout.contains(part)), "{question}: {shown}");
    }
    let says = lab.fails("providers OpenStack --image tini", 7);
    assert!(says.contains("there is no image `tini`") && says.contains("`tiny`"), "{says}");
}
