//! SCTP against Linux's, in an emulated machine.

#![cfg(target_os = "linux")]

use std::time::Duration;

use tidewire_integration_tests::peer_scenarios;
use tidewire_integration_tests::peers::Implementation::Linux;
use tidewire_integration_tests::peers::{meet, scenarios};

const LIMIT: Duration = Duration::from_secs(120);

peer_scenarios!(Linux, LIMIT);

#[test]
fn exchanges_over_a_bad_path() {
    for settings in [
        "delay 5ms 1ms loss 1%",
        "delay 5ms loss 5%",
        "delay 10ms reorder 25% 50%",
        "delay 5ms 2ms duplicate 5%",
    ] {
        let test = format!("exchanges_over_a_bad_path, {settings}");
        meet(&test, Linux, None, LIMIT, async move |meeting, family| {
            // Both versions are on the same link.
            if family == tidewire_integration_tests::kernel::Family::V4 {
                meeting.netem(settings);
            }
            scenarios::exchange(meeting, family).await
        });
    }
}
