//! The kernel matrix: every kind of device, both IP versions, with and without offloads, both roles, and on each of
//! these what a user of a stack does with it. What passed the devices is judged by Wireshark in the end.

#![cfg(target_os = "linux")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidewire_integration_tests::kernel::wireshark::{UNSOUND, found, join};
use tidewire_integration_tests::kernel::{
    DeviceKind, Family, Link, LinkConfig, Recording, Role, scenarios,
};
use tidewire_integration_tests::namespace::{Flavor, announce, isolated, run_with};
use tidewire_integration_tests::requirements::{missing_program, skip};

const MIB: usize = 1 << 20;
/// A case takes about a second; a machine with other work takes longer.
const CASE: Duration = Duration::from_secs(30);
/// Octets of a capture: the beginning of a case, with every kind of packet in it.
const RECORDED: u64 = 512 << 10;
/// What a path carries that is narrower than the links at its ends.
const NARROW: usize = 1300;
/// As many cases as [`cases`] gives, counted by hand: 9 scenarios, 2 versions, 2 roles, with and without offload.
const CASES: usize = 72;

/// What is done on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// Large bodies both ways at once, at this MTU.
    Bulk(usize),
    SmallMessages,
    HalfClose,
    Reset,
    /// 200 connections at once.
    Connections,
    /// The largest packets do not get through.
    NarrowPath,
    Datagrams,
}

#[derive(Clone, Copy)]
struct Case {
    device: DeviceKind,
    family: Family,
    offload: bool,
    role: Role,
    scenario: Scenario,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offload = if self.offload {
            "offload"
        } else {
            "no offload"
        };
        let Self {
            device,
            family,
            role,
            scenario,
            ..
        } = self;
        write!(f, "{device:?} {family:?} {offload} {role:?} {scenario:?}")
    }
}

fn cases(device: DeviceKind) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for offload in [true, false] {
            for role in Role::ALL {
                let scenarios = [
                    Scenario::Bulk(family.smallest_mtu()),
                    Scenario::Bulk(1500),
                    Scenario::Bulk(9000),
                    Scenario::SmallMessages,
                    Scenario::HalfClose,
                    Scenario::Reset,
                    Scenario::Connections,
                    Scenario::NarrowPath,
                    Scenario::Datagrams,
                ];
                cases.extend(scenarios.map(|scenario| Case {
                    device,
                    family,
                    offload,
                    role,
                    scenario,
                }));
            }
        }
    }
    cases
}

/// Octets of a large body; `TIDEWIRE_BODY_MIB` says how many MiB, 64 if it does not.
fn large() -> usize {
    let mib = std::env::var("TIDEWIRE_BODY_MIB").ok();
    mib.map_or(64, |text| {
        text.parse().expect("TIDEWIRE_BODY_MIB is a number")
    }) * MIB
}

impl Case {
    fn config(self, capture: PathBuf) -> LinkConfig {
        LinkConfig {
            device: self.device,
            mtu: match self.scenario {
                Scenario::Bulk(mtu) => mtu,
                _ => 1500,
            },
            offload: self.offload,
            capture: Some(Recording {
                path: capture,
                limit: Some(RECORDED),
            }),
            hops: match self.scenario {
                Scenario::NarrowPath => vec![NARROW, 1500],
                _ => Vec::new(),
            },
            ..LinkConfig::default()
        }
    }

    async fn run(self, link: &Link) -> io::Result<()> {
        let (family, role) = (self.family, self.role);
        match self.scenario {
            Scenario::Bulk(_) => {
                // Packet by packet, a device takes a tenth of what it takes in super-packets.
                let size = if self.offload { large() } else { large() / 4 };
                scenarios::bulk(link, family, role, size).await?;
                self.assert_sizes(link);
            }
            Scenario::SmallMessages => scenarios::small_messages(link, family, role).await?,
            Scenario::HalfClose => {
                scenarios::kernel_half_closes(link, family, role).await?;
                scenarios::stack_half_closes(link, family, role).await?;
            }
            Scenario::Reset => {
                scenarios::kernel_resets(link, family, role).await?;
                scenarios::stack_resets(link, family, role).await?;
            }
            Scenario::Connections => scenarios::at_once(link, family, role, 200).await?,
            Scenario::NarrowPath => scenarios::narrow_path(link, family, role, NARROW).await?,
            Scenario::Datagrams => scenarios::datagrams(link, family, role).await?,
        }
        Ok(())
    }

    /// What offloads are for, or what a device without them must not carry.
    fn assert_sizes(self, link: &Link) {
        let Scenario::Bulk(mtu) = self.scenario else {
            return;
        };
        let (read, written) = (link.meter().largest_read(), link.meter().largest_write());
        if self.offload {
            assert!(read.min(written) > 60 * 1024, "{self:?}: {read}, {written}");
        } else {
            assert!(
                read.max(written) <= (mtu + self.device.link_header()) as u64,
                "{self:?}: {read}, {written}"
            );
        }
    }
}

/// Runs one case on a link of its own; how many packets were recorded.
async fn run(case: Case, capture: PathBuf) -> u64 {
    let started = Instant::now();
    let link = Link::start(&case.config(capture)).await;
    let name = format!("{case:?}");
    let result = link.within(CASE.mul_f64(0.9), &name, case.run(&link)).await;
    result.unwrap_or_else(|error| panic!("{name}: {error}\n{}", link.report()));
    link.assert_clean();
    let packets = link.flush_capture();
    assert!(packets > 2, "{name}: {packets} packets were recorded");
    announce(&format!("{name}: {:.2?}", started.elapsed()));
    packets
}

/// Runs every case of a kind of device.
fn matrix(test: &str, device: DeviceKind) {
    isolated(test, device.needs(), || {
        let cases = cases(device);
        assert_eq!(cases.len(), CASES, "no case is forgotten");
        let folder = tempfile::tempdir().expect("a folder");
        let (ran, packets) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let mut captures = Vec::new();
        for (index, case) in cases.into_iter().enumerate() {
            let capture = folder.path().join(format!("{index}.pcapng"));
            captures.push(capture.clone());
            let (ran, packets) = (Arc::clone(&ran), Arc::clone(&packets));
            let name = format!("{test}: {case:?}");
            run_with(
                &name,
                device.needs(),
                Flavor::CurrentThread,
                CASE,
                async move || {
                    packets.fetch_add(run(case, capture).await, Ordering::Relaxed);
                    ran.fetch_add(1, Ordering::Relaxed);
                },
            );
        }
        assert_eq!(ran.load(Ordering::Relaxed), CASES, "every case ran");
        announce(&format!("kernel: {CASES} cases (matrix of {device:?})"));
        let packets = packets.load(Ordering::Relaxed);
        judge(test, &captures, packets, folder.path());
    });
}

/// Asserts that Wireshark finds no malformed packet and no bad checksum.
fn judge(test: &str, captures: &[PathBuf], packets: u64, folder: &Path) {
    if let Some(reason) = missing_program("tshark") {
        return skip(test, &reason);
    }
    let started = Instant::now();
    let all = folder.join("all.pcapng");
    join(captures, &all).expect("our own files");
    // The last packet shows that Wireshark came so far.
    let unsound = found(&all, &format!("{UNSOUND} || frame.number == {packets}"));
    assert_eq!(unsound.len(), 1, "{}", unsound.join("\n"));
    announce(&format!(
        "Wireshark is content with {packets} packets after {:.2?}",
        started.elapsed()
    ));
}

#[test]
fn tun() {
    matrix("tun", DeviceKind::Tun);
}

#[test]
fn tap() {
    matrix("tap", DeviceKind::Tap);
}

/// As anybody, too.
#[test]
fn packet() {
    matrix("packet", DeviceKind::Packet);
}
