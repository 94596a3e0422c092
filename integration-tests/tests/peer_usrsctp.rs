//! SCTP against usrsctp, in a namespace.

#![cfg(target_os = "linux")]

use std::time::Duration;

use tidewire_integration_tests::peer_scenarios;
use tidewire_integration_tests::peers::Implementation::Usrsctp;
use tidewire_integration_tests::peers::{meet, scenarios};
use tidewire_netdev::memory::{ImpairmentConfig, Loss, Reorder};

const LIMIT: Duration = Duration::from_secs(60);

peer_scenarios!(Usrsctp, LIMIT);

#[test]
fn exchanges_over_a_bad_path() {
    let base = ImpairmentConfig::delay(Duration::from_millis(2));
    let paths = [
        ("1 % loss", base.clone().with_loss(0.01)),
        ("5 % loss", base.clone().with_loss(0.05)),
        (
            "bursts",
            ImpairmentConfig {
                loss: Loss::GilbertElliott {
                    good_to_bad: 0.01,
                    bad_to_good: 0.2,
                    loss_in_good: 0.0,
                    loss_in_bad: 0.6,
                },
                ..base.clone()
            },
        ),
        (
            "reordering",
            ImpairmentConfig {
                reorder: Reorder {
                    probability: 0.1,
                    extra_delay: Duration::from_millis(1),
                },
                jitter: Duration::from_micros(500),
                ..base.clone()
            },
        ),
        (
            "duplicates and damage",
            ImpairmentConfig {
                duplicate: 0.1,
                corrupt: 0.01,
                ..base
            },
        ),
    ];
    for (name, impairment) in paths {
        let test = format!("exchanges_over_a_bad_path, {name}");
        meet(&test, Usrsctp, Some(impairment), LIMIT, scenarios::exchange);
    }
}
