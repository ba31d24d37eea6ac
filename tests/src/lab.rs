//! A provider that only a `broker` of one's own has: TestProvider under another name.

use std::sync::Arc;

use broker_core::provider::{ActionInfo, ProviderFactory, ProviderInfo, factory as make_factory};

/// The provider's factory, under the name `Lab`. Its action is `lab_machine`.
pub fn factory() -> Arc<dyn ProviderFactory> {
    let info = ProviderInfo {
        name: "Lab",
        about: "the machines in the cellar",
        actions: vec![ActionInfo {
            name: "lab_machine",
            value: "NAME",
            help: "A machine of the lab",
            makes_host: true,
            executes: false,
        }],
        ..ProviderInfo::default()
    };
    make_factory(info, |settings| broker_test_provider::factory().build(settings))
}
