//! The kernel behind a path that loses, reorders, duplicates and damages: its recovery against ours, in both directions.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use tidewire_integration_tests::bodies::body;
use tidewire_integration_tests::exchange::exchange;
use tidewire_integration_tests::kernel::{Family, Link, LinkConfig, Role};
use tidewire_integration_tests::namespace::{Flavor, announce, run};
use tidewire_netdev::memory::{ImpairmentConfig, Loss, Reorder};

const LIMIT: Duration = Duration::from_secs(60);

/// The paths; each is the same in both directions.
fn paths() -> Vec<(&'static str, usize, ImpairmentConfig)> {
    let base = ImpairmentConfig::delay(Duration::from_millis(2));
    vec![
        ("1 % loss", 2 << 20, base.clone().with_loss(0.01)),
        ("5 % loss", 500_000, base.clone().with_loss(0.05)),
        ("10 % loss", 100_000, base.clone().with_loss(0.1)),
        (
            "5 % loss, small segments",
            60_000,
            base.clone().with_loss(0.05),
        ),
        (
            "bursts",
            2 << 20,
            ImpairmentConfig {
                loss: Loss::GilbertElliott {
                    good_to_bad: 0.004,
                    bad_to_good: 0.2,
                    loss_in_good: 0.0,
                    // The chain goes on per packet: certain loss would outlast many a timeout's single packet.
                    loss_in_bad: 0.6,
                },
                ..base.clone()
            },
        ),
        (
            "reordering",
            2 << 20,
            ImpairmentConfig {
                reorder: Reorder {
                    probability: 0.05,
                    extra_delay: Duration::from_millis(1),
                },
                jitter: Duration::from_micros(500),
                ..base.clone()
            },
        ),
        (
            "duplicates",
            4 << 20,
            ImpairmentConfig {
                duplicate: 0.1,
                ..base.clone()
            },
        ),
        (
            "damage",
            1 << 20,
            ImpairmentConfig {
                corrupt: 0.01,
                ..base.clone()
            },
        ),
        (
            "long and fat",
            12 << 20,
            ImpairmentConfig::delay(Duration::from_millis(20)).with_rate(1_000_000_000, 1 << 20),
        ),
        (
            "a shallow bottleneck",
            4 << 20,
            base.with_rate(200_000_000, 100_000),
        ),
    ]
}

#[test]
fn transfers_over_a_bad_path_arrive_whole() {
    let mut cases = 0;
    for (name, size, impairment) in paths() {
        // Small segments: hundreds of holes and ranges.
        let small = name == "5 % loss, small segments";
        for (role, family) in Role::ALL.into_iter().zip(Family::ALL) {
            let mut config = LinkConfig {
                impairment: Some(impairment.clone()),
                ..LinkConfig::default()
            };
            if small {
                config.tcp.max_mss = Some(100);
            }
            let case = format!("{name}, {role:?}, {family:?}");
            run(
                &case.clone(),
                Flavor::CurrentThread,
                LIMIT,
                async move || {
                    let link = Link::start(&config).await;
                    let connected = link.connected(role, family);
                    let (mut ours, mut kernel) = link.within(LIMIT / 3, &case, connected).await;
                    let (up, down) = (body(20, size), body(21, size));
                    let started = Instant::now();
                    let both = exchange(&mut ours, &mut kernel, &up, &down);
                    let both = link.within(LIMIT / 2, &case, both).await;
                    both.unwrap_or_else(|error| panic!("{case}: {error}\n{}", link.report()));
                    let rate = 2.0 * size as f64 / started.elapsed().as_secs_f64() / 1e6;
                    let info = ours.info();
                    announce(&format!(
                        "{case}: {rate:.1} MB/s; retransmitted: we {}, kernel {}; our timeouts {}, recoveries {}",
                        info.retransmits,
                        link.counted("TcpRetransSegs"),
                        info.timeouts,
                        info.recoveries
                    ));
                },
            );
            cases += 1;
        }
    }
    assert_eq!(cases, 2 * paths().len());
    announce(&format!(
        "kernel: {cases} cases (transfers_over_a_bad_path_arrive_whole)"
    ));
}
