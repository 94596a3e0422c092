//! An Ethernet switch in the process: several devices on one link.
//!
//! ```text
//!  Transmitter ─▶ impairment ─▶ learn, look up ─┬─▶ the port's queue ─▶ impairment, ─▶ Receiver
//!   (port 0)      (to_switch)                   │   (bounded)           segmentation    (port 1)
//!                                               └─▶ … (flooded)         (from_switch)
//! ```
//!
//! It does what IEEE 802.1D asks of a bridge without spanning tree: it learns where stations are, forwards to them,
//! floods what is for a group or for a station that it does not know, and never sends a frame back to where it came
//! from. Frames cross by reference, super-packets whole and checksums unfilled; a port whose device cannot take them so,
//! or that is impaired, gets them cut and completed.
//!
//! **Where frames are lost.** A transmitter is never held back: switching happens within its call, so a port towards the
//! switch is never full. A port away from the switch has a bounded queue, and what does not fit is dropped and counted.
//! That is no loss between layers of ours but a network's: back-pressure would let one slow port stop all who talk to it,
//! as it would in a real switch.
//!
//! **Time.** There is no task. Impairments in both directions and the ageing of addresses follow the clock of the runtime
//! that [`Switch::new`] was called in (or else that of the first use), which may be paused; all devices of a switch with
//! impairments belong to that runtime. Times are stamped when a frame is sent. With one thread, the same seeds and the
//! same frames give the same result, in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use self::port::{PortReceiver, PortTransmitter};
use self::table::AddressTable;
use super::impaired::ImpairmentMonitor;
use super::impairment::{ImpairmentConfig, ImpairmentStats};
use crate::device::{Capabilities, Device, Medium, OffloadSet};
use crate::headers::ETHERNET_HEADER;
use crate::mac::MacAddress;
use crate::packet::Packet;

mod port;
mod table;

/// How a switch behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    /// The most addresses it knows; frames for others are flooded. Default: 1024.
    pub table_size: usize,
    /// How long an address is known after its station last sent. Default: 300 seconds (IEEE 802.1D table 7-5).
    pub ageing: Duration,
    /// The most octets per port that are under way from impaired ports towards it, bookkeeping included; what would
    /// exceed it is dropped. A bound on memory, not a model of anything. Default: 256 MiB.
    pub in_flight_limit: usize,
}

impl Default for SwitchConfig {
    fn default() -> Self {
        Self {
            table_size: 1024,
            ageing: Duration::from_secs(300),
            in_flight_limit: 256 << 20,
        }
    }
}

/// One port of a switch and the device behind it.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The device's name. Default: `port`.
    pub name: String,
    /// The largest network-layer packet in octets. Larger ones do not leave the switch here: they are dropped and
    /// counted. Default: 1500.
    pub mtu: usize,
    /// What the device leaves undone when it sends, and takes undone when it receives. Default: everything.
    pub offloads: OffloadSet,
    /// The device's address. Default: a locally administered one that follows from the port's number.
    pub hardware_address: Option<MacAddress>,
    /// What becomes of frames on their way from the device to the switch. Its
    /// [`in_flight_limit`](ImpairmentConfig::in_flight_limit) has no effect: [`SwitchConfig::in_flight_limit`] has.
    /// Default: nothing.
    pub to_switch: Option<ImpairmentConfig>,
    /// What becomes of frames on their way from the switch to the device. Default: nothing.
    pub from_switch: Option<ImpairmentConfig>,
    /// Seeds both directions. Default: 0.
    pub seed: u64,
    /// The most frames that wait for the device; more are dropped. A super-packet counts as one. Default: 4096.
    pub queue_packets: usize,
    /// The most octets that wait for the device. Default: 16 MiB.
    pub queue_bytes: usize,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            name: "port".to_owned(),
            mtu: 1500,
            offloads: OffloadSet::ALL,
            hardware_address: None,
            to_switch: None,
            from_switch: None,
            seed: 0,
            queue_packets: 4096,
            queue_bytes: 16 << 20,
        }
    }
}

impl PortConfig {
    /// A port without impairments.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// What one port has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames that came from the device (through its impairment, if it has one). A super-packet counts as one.
    pub received: u64,
    /// Of those: sent to the one port of their destination.
    pub forwarded: u64,
    /// Of those: sent to all other ports.
    pub flooded: u64,
    /// Of those: not sent, because their destination is on this very port, or a group that no bridge forwards.
    pub filtered: u64,
    /// Of those: shorter than an Ethernet header, or from a group.
    pub malformed: u64,
    /// Of those: from a station that the full table had no room for.
    pub not_learned: u64,
    /// Packets given to the device.
    pub delivered: u64,
    /// Frames for the device that were dropped because its queue was full.
    pub queue_full: u64,
    /// Frames for the device that were dropped by [`SwitchConfig::in_flight_limit`].
    pub in_flight_full: u64,
    /// Frames for the device that were dropped because they exceed [`PortConfig::mtu`].
    pub over_mtu: u64,
    /// Super-packets for the device that could not be cut, dropped whole.
    pub not_cut: u64,
    /// What became of frames on their way to the switch, if that is impaired.
    pub to_switch: Option<ImpairmentStats>,
    /// What became of frames on their way from the switch, if that is impaired.
    pub from_switch: Option<ImpairmentStats>,
}

/// An Ethernet switch. Its ports live on without it.
///
/// ```
/// use tidewire_netdev::memory::{PortConfig, Switch, SwitchConfig};
///
/// let switch = Switch::new(SwitchConfig::default());
/// let alice = switch.port(PortConfig::named("alice"));
/// let bob = switch.port(PortConfig::named("bob"));
/// assert_ne!(alice.hardware_address, bob.hardware_address);
/// drop(bob); // unplugged
/// assert_eq!(switch.monitor().ports().len(), 1);
/// ```
#[derive(Debug)]
pub struct Switch {
    fabric: Arc<Fabric>,
}

impl Switch {
    /// A switch without ports.
    pub fn new(config: SwitchConfig) -> Self {
        let ageing = u64::try_from(config.ageing.as_nanos()).unwrap_or(u64::MAX);
        let clock = Clock::default();
        if Handle::try_current().is_ok() {
            clock.start();
        }
        Self {
            fabric: Arc::new(Fabric {
                in_flight_limit: config.in_flight_limit,
                clock,
                state: Mutex::new(State {
                    ports: BTreeMap::new(),
                    table: AddressTable::new(config.table_size, ageing),
                    next_port: 0,
                    sequence: 0,
                }),
            }),
        }
    }

    /// Adds a port and gives the device that is plugged in there. Dropping the device removes the port, and the
    /// addresses that were learned from it are forgotten.
    ///
    /// To receive super-packets in spite of an impairment, pass the device through
    /// [`coalescing::wrap`](crate::coalescing::wrap()).
    pub fn port(&self, config: PortConfig) -> Device {
        let mut state = self.fabric.lock();
        let number = state.next_port;
        state.next_port += 1;
        let monitors = PortMonitors {
            egress: Arc::default(),
            to_switch: config
                .to_switch
                .as_ref()
                .map(|_| ImpairmentMonitor::default()),
            from_switch: config
                .from_switch
                .as_ref()
                .map(|_| ImpairmentMonitor::default()),
        };
        state.ports.insert(
            number,
            Port::new(&config, monitors.clone(), self.fabric.in_flight_limit),
        );
        drop(state);
        let capabilities = Capabilities {
            medium: Medium::Ethernet,
            mtu: config.mtu,
            offloads: config.offloads,
            max_super_packet: 65_535,
        };
        let receiver = PortReceiver::new(
            Arc::clone(&self.fabric),
            number,
            &config,
            capabilities.clone(),
            monitors.clone(),
        );
        let transmitter = PortTransmitter::new(Arc::clone(&self.fabric), number, &config, monitors);
        let mut device = Device::new(config.name, receiver, transmitter, capabilities);
        device.hardware_address = config
            .hardware_address
            .or_else(|| Some(default_address(number)));
        device
    }

    /// A view of the switch from outside.
    pub fn monitor(&self) -> SwitchMonitor {
        SwitchMonitor {
            fabric: Arc::clone(&self.fabric),
        }
    }
}

/// The address of a port's device that was given none: locally administered, "TW" and the port's number.
fn default_address(number: usize) -> MacAddress {
    let [.., a, b, c] = number.to_be_bytes();
    MacAddress::locally_administered([0x02, 0x54, 0x57, a, b, c])
}

/// Watches a switch from outside.
#[derive(Clone, Debug)]
pub struct SwitchMonitor {
    fabric: Arc<Fabric>,
}

impl SwitchMonitor {
    /// What the first port of this name has done; `None` when there is none (any more).
    pub fn port(&self, name: &str) -> Option<PortStats> {
        let state = self.fabric.lock();
        let port = state.ports.values().find(|port| port.name == name)?;
        Some(port.stats())
    }

    /// All ports that are plugged in, in the order in which they were added.
    pub fn ports(&self) -> Vec<(String, PortStats)> {
        let state = self.fabric.lock();
        let ports = state.ports.values();
        ports
            .map(|port| (port.name.clone(), port.stats()))
            .collect()
    }

    /// The addresses that the switch knows now, in ascending order, and the names of their ports.
    pub fn addresses(&self) -> Vec<(MacAddress, String)> {
        let now = self.fabric.clock.now();
        let state = self.fabric.lock();
        let known = state.table.known(now);
        known
            .filter_map(|(address, port)| Some((address, state.ports.get(&port)?.name.clone())))
            .collect()
    }
}

/// Nanoseconds since the first look, by the clock of one runtime.
#[derive(Debug, Default)]
struct Clock {
    start: OnceLock<(Option<Handle>, Instant)>,
}

impl Clock {
    fn start(&self) -> &(Option<Handle>, Instant) {
        self.start
            .get_or_init(|| (Handle::try_current().ok(), Instant::now()))
    }

    fn epoch(&self) -> Instant {
        self.start().1
    }

    fn now(&self) -> u64 {
        let (handle, epoch) = self.start();
        // A foreign thread does not see a paused clock otherwise.
        let _guard = handle.as_ref().map(Handle::enter);
        u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What all ports share.
struct Fabric {
    in_flight_limit: usize,
    clock: Clock,
    state: Mutex<State>,
}

impl Fabric {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a change of the state, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Fabric")
            .field("ports", &state.ports.len())
            .field("table", &state.table)
            .finish_non_exhaustive()
    }
}

struct State {
    /// By number; flooding goes in this order.
    ports: BTreeMap<usize, Port>,
    table: AddressTable,
    /// Numbers are never used again, so that a late frame cannot reach a wrong device.
    next_port: usize,
    /// Numbers the frames under way, so that equal times keep their order.
    sequence: u64,
}

/// What has to be done with no lock held: wakers and the owners of a packet's octets are foreign code.
#[derive(Default)]
struct Aftermath {
    wakers: Vec<Waker>,
    dropped: Vec<Packet>,
}

impl Aftermath {
    fn run(self) {
        for waker in self.wakers {
            waker.wake();
        }
        drop(self.dropped);
    }
}

impl State {
    /// Takes a frame from port `from` that reaches the switch at `time`, which is `now` or later.
    fn switch(
        &mut self,
        now: u64,
        from: usize,
        time: u64,
        mut frame: Packet,
        aftermath: &mut Aftermath,
    ) {
        let Some(port) = self.ports.get_mut(&from) else {
            aftermath.dropped.push(frame);
            return;
        };
        let stats = &mut port.stats;
        stats.received += 1;
        let addresses = addresses(&mut frame).filter(|(_, source)| source.is_unicast());
        let Some((destination, source)) = addresses else {
            stats.malformed += 1;
            aftermath.dropped.push(frame);
            return;
        };
        if port.inbox.is_open && !self.table.learn(now, source, from) {
            stats.not_learned += 1;
        }
        let to = if destination.is_multicast() {
            None
        } else {
            self.table.port_of(now, destination)
        };
        match to {
            Some(to) if to == from => {
                stats.filtered += 1;
                aftermath.dropped.push(frame);
            }
            Some(to) => {
                stats.forwarded += 1;
                self.deliver(now, to, time, frame, aftermath);
            }
            None if is_reserved(destination) => {
                stats.filtered += 1;
                aftermath.dropped.push(frame);
            }
            None => {
                stats.flooded += 1;
                let others: Vec<usize> = self.ports.keys().copied().collect();
                for to in others.into_iter().filter(|to| *to != from) {
                    self.deliver(now, to, time, frame.clone(), aftermath);
                }
                aftermath.dropped.push(frame);
            }
        }
    }

    /// Puts a frame into a port's queue, or under way to it.
    fn deliver(
        &mut self,
        now: u64,
        to: usize,
        time: u64,
        frame: Packet,
        aftermath: &mut Aftermath,
    ) {
        self.sequence += 1;
        let Some(port) = self.ports.get_mut(&to).filter(|port| port.inbox.is_open) else {
            aftermath.dropped.push(frame);
            return;
        };
        let stats = &mut port.stats;
        let (refused, counter) = if time > now {
            let refused = port.inbox.schedule(time, self.sequence, frame);
            (refused, &mut stats.in_flight_full)
        } else {
            (port.inbox.queue(time, frame), &mut stats.queue_full)
        };
        match refused {
            None => aftermath.wakers.extend(port.inbox.reader.take()),
            Some(frame) => {
                *counter += 1;
                aftermath.dropped.push(frame);
            }
        }
    }
}

/// Destination and source of a frame.
fn addresses(frame: &mut Packet) -> Option<(MacAddress, MacAddress)> {
    if !frame.pull_up(ETHERNET_HEADER) {
        return None;
    }
    let (destination, rest) = frame.contiguous().split_first_chunk::<6>()?;
    let (source, _) = rest.split_first_chunk::<6>()?;
    Some((MacAddress(*destination), MacAddress(*source)))
}

/// Groups that end at the next bridge (IEEE 802.1D 7.12.6), such as those of spanning tree and LLDP.
fn is_reserved(destination: MacAddress) -> bool {
    matches!(destination.0, [0x01, 0x80, 0xc2, 0, 0, 0x00..=0x0f])
}

/// One port, as the switch sees it.
struct Port {
    name: String,
    /// What the state's lock guards; the rest is in `monitors`.
    stats: PortStats,
    monitors: PortMonitors,
    inbox: Inbox,
    /// The device's transmitter is still there.
    has_transmitter: bool,
}

impl Port {
    fn new(config: &PortConfig, monitors: PortMonitors, in_flight_limit: usize) -> Self {
        Self {
            name: config.name.clone(),
            stats: PortStats::default(),
            monitors,
            inbox: Inbox {
                is_open: true,
                queue: VecDeque::new(),
                queue_bytes: 0,
                max_packets: config.queue_packets.max(1),
                max_bytes: config.queue_bytes,
                scheduled: BTreeMap::new(),
                scheduled_bytes: 0,
                max_scheduled_bytes: in_flight_limit,
                reader: None,
            },
            has_transmitter: true,
        }
    }

    fn stats(&self) -> PortStats {
        let egress = &self.monitors.egress;
        PortStats {
            delivered: egress.delivered.load(Ordering::Relaxed),
            over_mtu: egress.over_mtu.load(Ordering::Relaxed),
            not_cut: egress.not_cut.load(Ordering::Relaxed),
            to_switch: self
                .monitors
                .to_switch
                .as_ref()
                .map(ImpairmentMonitor::stats),
            from_switch: self
                .monitors
                .from_switch
                .as_ref()
                .map(ImpairmentMonitor::stats),
            ..self.stats
        }
    }
}

/// What a port's two halves report without the switch's lock.
#[derive(Clone, Debug)]
struct PortMonitors {
    egress: Arc<EgressCounters>,
    to_switch: Option<ImpairmentMonitor>,
    from_switch: Option<ImpairmentMonitor>,
}

#[derive(Debug, Default)]
struct EgressCounters {
    delivered: AtomicU64,
    over_mtu: AtomicU64,
    not_cut: AtomicU64,
}

/// What waits for a port's device.
struct Inbox {
    /// Somebody may still receive.
    is_open: bool,
    /// Frames that have arrived, with the time at which they did.
    queue: VecDeque<(u64, Packet)>,
    queue_bytes: usize,
    max_packets: usize,
    max_bytes: usize,
    /// Frames under way from impaired ports, by time of arrival and number.
    scheduled: BTreeMap<(u64, u64), Packet>,
    scheduled_bytes: usize,
    max_scheduled_bytes: usize,
    reader: Option<Waker>,
}

impl Inbox {
    /// Gives the frame back if there is no room for it.
    fn queue(&mut self, time: u64, frame: Packet) -> Option<Packet> {
        let has_room = self.queue.is_empty()
            || (self.queue.len() < self.max_packets
                && self.queue_bytes + frame.len() <= self.max_bytes);
        if !has_room {
            return Some(frame);
        }
        self.queue_bytes += frame.len();
        self.queue.push_back((time, frame));
        None
    }

    /// Gives the frame back if there is no room for it.
    fn schedule(&mut self, time: u64, sequence: u64, frame: Packet) -> Option<Packet> {
        let bytes = self.scheduled_bytes + scheduled_charge(&frame);
        if bytes > self.max_scheduled_bytes {
            return Some(frame);
        }
        self.scheduled_bytes = bytes;
        self.scheduled.insert((time, sequence), frame);
        None
    }

    /// Moves what has arrived by `now` to `arrived`, in the order of arrival.
    fn collect(&mut self, now: u64, arrived: &mut VecDeque<(u64, Packet)>) {
        while let Some(entry) = self.scheduled.first_entry()
            && entry.key().0 <= now
        {
            let ((time, _), frame) = entry.remove_entry();
            self.scheduled_bytes -= scheduled_charge(&frame);
            while let Some((earlier, _)) = self.queue.front()
                && *earlier <= time
            {
                arrived.extend(self.queue.pop_front());
            }
            arrived.push_back((time, frame));
        }
        arrived.append(&mut self.queue);
        self.queue_bytes = 0;
    }

    /// When the next frame under way arrives.
    fn next_arrival(&self) -> Option<u64> {
        let (time, _) = self.scheduled.first_key_value()?.0;
        Some(*time)
    }
}

fn scheduled_charge(frame: &Packet) -> usize {
    frame.len() + size_of::<Packet>()
}

#[cfg(test)]
mod tests;
