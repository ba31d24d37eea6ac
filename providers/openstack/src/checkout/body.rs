//! What Nova is sent to have a server made.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Making, mark};
use crate::api::compute;
use crate::request::Plug;

impl Making<'_> {
    pub(super) fn body(&self, key_name: &str) -> Value {
        let spec = self.spec;
        let mut server = json!({
            "name": self.name,
            "imageRef": self.resolved.image.id,
            "flavorRef": self.resolved.flavor.id,
            "key_name": key_name,
            "metadata": self.metadata(),
            "networks": self.plugs(),
        });
        let mut put = |name: &str, value: Value| {
            if let Some(server) = server.as_object_mut() {
                server.insert(name.to_owned(), value);
            }
        };
        if let Some(size) = spec.volume {
            // Nova has it made, and removed with the server.
            put(
                "block_device_mapping_v2",
                json!([{
                    "boot_index": 0,
                    "uuid": self.resolved.image.id,
                    "source_type": "image",
                    "destination_type": "volume",
                    "volume_size": size,
                    "delete_on_termination": true,
                }]),
            );
            put("imageRef", json!(""));
        }
        if !spec.security_groups.is_empty() {
            put("security_groups", spec.security_groups.iter().map(|name| json!({ "name": name })).collect());
        }
        if let Some(zone) = &spec.zone {
            put("availability_zone", json!(zone));
        }
        if let Some(data) = &spec.user_data {
            put("user_data", json!(STANDARD.encode(data)));
        }
        if let Some(drive) = spec.config_drive {
            put("config_drive", json!(drive));
        }
        if self.client.minor() >= compute::TAGS {
            let mut tags = vec![mark(self.order.id)];
            tags.extend(spec.tags.iter().cloned());
            put("tags", json!(tags));
        }
        let mut body = json!({ "server": server });
        if let (Some(group), Some(body)) = (&self.resolved.group, body.as_object_mut()) {
            body.insert("os:scheduler_hints".to_owned(), json!({ "group": group }));
        }
        body
    }

    fn plugs(&self) -> Vec<Value> {
        let mut networks = self.resolved.networks.iter();
        let mut plugs: Vec<Value> = Vec::new();
        for plug in &self.spec.plugs {
            match plug {
                Plug::Port(port) => plugs.push(json!({ "port": port })),
                Plug::Network { address, .. } => {
                    if let Some(network) = networks.next() {
                        plugs.push(match address {
                            Some(address) => json!({"uuid": network.id, "fixed_ip": address.to_string()}),
                            None => json!({ "uuid": network.id }),
                        });
                    }
                }
            }
        }
        // Nobody named one: the only one there is.
        plugs.extend(networks.map(|network| json!({ "uuid": network.id })));
        plugs
    }

    /// What the order says, and how the host is reached.
    fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = self.spec.metadata.clone();
        metadata.extend(self.reach().metadata());
        metadata
    }
}
