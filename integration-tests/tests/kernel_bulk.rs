//! Bulk against the kernel: both roles, both IP versions, with and without offloads, from the smallest MTU to 9000, both
//! ways at once, ended by half-closes.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use tidewire_integration_tests::kernel::{Family, Link, LinkConfig, Role, scenarios};
use tidewire_integration_tests::namespace::{Flavor, announce, run};

const MIB: usize = 1 << 20;
/// A case takes about a second; a machine with other work takes longer.
const CASE: Duration = Duration::from_secs(20);

/// One case: a link, and who does what on it.
#[derive(Clone, Copy, Debug)]
struct Case {
    role: Role,
    family: Family,
    offload: bool,
    /// A plain TUN has none, and no offloads.
    virtio_header: bool,
    mtu: usize,
    /// Octets each way.
    size: usize,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for role in Role::ALL {
        for family in Family::ALL {
            for offload in [true, false] {
                for mtu in [family.smallest_mtu(), 1500, 9000] {
                    let size = match (offload, mtu) {
                        (true, 1500..) => 64 * MIB,
                        (true, _) => 16 * MIB,
                        (false, 1500..) => 8 * MIB,
                        (false, _) => 4 * MIB,
                    };
                    cases.push(Case {
                        virtio_header: true,
                        role,
                        family,
                        offload,
                        mtu,
                        size,
                    });
                }
            }
        }
    }
    cases
}

async fn bulk(case: Case) {
    let config = LinkConfig {
        mtu: case.mtu,
        offload: case.offload,
        virtio_header: case.virtio_header,
        ..LinkConfig::default()
    };
    let link = Link::start(&config).await;
    let started = Instant::now();
    let both = scenarios::bulk(&link, case.family, case.role, case.size);
    let both = link.within(CASE, &format!("{case:?}"), both).await;
    let octets = both.unwrap_or_else(|error| panic!("{case:?}: {error}\n{}", link.report()));
    let rate = octets as f64 / started.elapsed().as_secs_f64() / 1e6;
    announce(&format!("{case:?}: {rate:.0} MB/s"));
    link.assert_clean();
    assert_eq!(link.counted("TcpOutRsts"), 0, "{case:?}: {}", link.report());
    if case.offload && case.mtu <= 9000 {
        let (read, written) = (link.meter().largest_read(), link.meter().largest_write());
        assert!(
            read > 60 * 1024,
            "{case:?}: the largest read was {read} octets"
        );
        assert!(
            written > 60 * 1024,
            "{case:?}: the largest write was {written} octets"
        );
    }
    if !case.offload {
        let largest = link
            .meter()
            .largest_write()
            .max(link.meter().largest_read());
        assert!(
            largest <= case.mtu as u64,
            "{case:?}: a packet of {largest} octets"
        );
    }
}

fn run_all(test: &str, flavor: Flavor, cases: &[Case]) {
    for &case in cases {
        run(test, flavor, CASE * 2, move || bulk(case));
    }
    announce(&format!("kernel: {} cases ({test})", cases.len()));
}

#[test]
fn bulk_both_ways_at_once_arrives_whole() {
    let cases = cases();
    assert_eq!(cases.len(), 24, "roles x families x offload x MTU");
    run_all(
        "bulk_both_ways_at_once_arrives_whole",
        Flavor::CurrentThread,
        &cases,
    );
}

/// The driver, the writer and the reader on different threads: wakes must not get lost between them.
#[test]
fn bulk_on_several_workers_arrives_whole() {
    let mut cases = cases();
    cases.retain(|case| case.mtu == 1500);
    assert_eq!(cases.len(), 8);
    run_all(
        "bulk_on_several_workers_arrives_whole",
        Flavor::Workers(3),
        &cases,
    );
}

/// What the standard sizes are not: a TUN without virtio-net headers, and MTUs beyond what a super-packet holds.
#[test]
fn bulk_on_unusual_links_arrives_whole() {
    let mut cases = Vec::new();
    for (role, family) in Role::ALL.into_iter().zip(Family::ALL) {
        let case = |mtu, offload, virtio_header| Case {
            role,
            family,
            offload,
            virtio_header,
            mtu,
            size: 8 * MIB,
        };
        cases.extend([
            case(1500, false, false),
            case(1501, true, true),
            case(32_767, true, true),
            case(65_535, true, true),
            case(65_535, false, true),
            case(65_535, false, false),
        ]);
    }
    run_all(
        "bulk_on_unusual_links_arrives_whole",
        Flavor::CurrentThread,
        &cases,
    );
}
