//! Devices with several queues, each with a driver of its own on a runtime with several threads, and packet sockets that
//! receive through a ring: the same exchanges with a kernel as everywhere.

#![cfg(target_os = "linux")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use tidewire_integration_tests::kernel::{DeviceKind, Family, Link, LinkConfig, Role, scenarios};
use tidewire_integration_tests::namespace::{Flavor, announce, isolated, run_with};

const CASE: Duration = Duration::from_secs(40);
const FLOWS: usize = 8;
const BODY: usize = 8 << 20;

/// Everything that several flows at once can do to each other.
async fn exchanges(config: &LinkConfig, family: Family, role: Role) -> io::Result<()> {
    let link = Link::start(config).await;
    // One after the other would not meet in the drivers.
    let flows = (0..FLOWS).map(|_| scenarios::bulk(&link, family, role, BODY));
    let octets: usize = try_join_all(flows).await?.into_iter().sum();
    assert_eq!(octets, FLOWS * (2 * BODY - BODY / 3));
    scenarios::at_once(&link, family, role, 200).await?;
    scenarios::small_messages(&link, family, role).await?;
    scenarios::kernel_half_closes(&link, family, role).await?;
    scenarios::stack_half_closes(&link, family, role).await?;
    scenarios::stack_resets(&link, family, role).await?;
    scenarios::datagrams(&link, family, role).await?;
    link.assert_clean();
    Ok(())
}

fn on_every_side(test: &str, flavor: Flavor, config: &LinkConfig) {
    let needs = config.device.needs();
    isolated(test, needs, || {
        let ran = Arc::new(AtomicUsize::new(0));
        for family in Family::ALL {
            for role in Role::ALL {
                let (config, ran) = (config.clone(), Arc::clone(&ran));
                let name = format!("{test}: {family:?} {role:?}");
                run_with(&name, needs, flavor, CASE, async move || {
                    let result = exchanges(&config, family, role).await;
                    result.unwrap_or_else(|error| panic!("{family:?} {role:?}: {error}"));
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            }
        }
        assert_eq!(ran.load(Ordering::Relaxed), 4, "every case ran");
        announce(&format!("kernel: 4 cases ({test})"));
    });
}

fn two_queues(test: &str, device: DeviceKind) {
    let config = LinkConfig {
        device,
        queues: 2,
        ..LinkConfig::default()
    };
    on_every_side(test, Flavor::Workers(2), &config);
}

#[test]
fn two_queues_of_a_tun() {
    two_queues("two_queues_of_a_tun", DeviceKind::Tun);
}

#[test]
fn two_queues_of_a_tap() {
    two_queues("two_queues_of_a_tap", DeviceKind::Tap);
}

#[test]
fn two_packet_sockets_of_a_fanout_group() {
    two_queues("two_packet_sockets_of_a_fanout_group", DeviceKind::Packet);
}

#[test]
fn packet_socket_with_a_ring() {
    let config = LinkConfig {
        device: DeviceKind::Packet,
        ring: true,
        // A ring holds frames of the MTU.
        offload: false,
        ..LinkConfig::default()
    };
    on_every_side("packet_socket_with_a_ring", Flavor::CurrentThread, &config);
}
