//! Own addresses: given to interfaces, checked for duplicates on links where others may have them, given up.

use std::net::{IpAddr, Ipv6Addr};
use std::task::{Poll, Waker};

use tidewire_netdev::MacAddress;

use crate::engine::shard::ShardId;
use crate::engine::transmit_queue::{Reply, ReplyWay};
use crate::engine::zone::{is_link_local, with_zone};
use crate::engine::{Engine, WakeList, lock, read};
use crate::error::{SocketError, SocketResult};
use crate::ip::address::InterfaceAddress;
use crate::ip::autoconf::dad::{AddressState, DadEvent, DuplicateDetection, LostAddress};
use crate::ip::autoconf::interface_identifier::{address_of, modified_eui64};
use crate::ip::multicast::SourceFilter;
use crate::ip::{Cidr, InterfaceId};
use crate::time::Instant;

impl Engine {
    /// Gives an interface an address and the route to its network. On a link with addresses of its own, others are asked
    /// first or meanwhile whether they have it, as the configuration says.
    pub fn add_address(&self, now: Instant, interface: InterfaceId, cidr: Cidr) {
        let host = &self.config.host;
        let mode = if cidr.address().is_ipv4() {
            host.duplicate_detection_v4
        } else {
            host.duplicate_detection_v6
        };
        self.add_address_checked(now, interface, cidr, mode);
    }

    pub(super) fn add_address_checked(
        &self,
        now: Instant,
        interface: InterfaceId,
        cidr: Cidr,
        mode: DuplicateDetection,
    ) {
        let address = cidr.address();
        let state = self.begin_detection(now, interface, address, mode);
        self.network.add_address(interface, cidr, state);
        self.set_solicited_node(now, interface, address, SourceFilter::everything());
        // Others are asked as soon as the driver looks.
        self.note_housekeeping(Some(now));
    }

    /// Begins to ask others about a new address, if the link has others; gives the state it begins in.
    pub(super) fn begin_detection(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        mode: DuplicateDetection,
    ) -> AddressState {
        if self.network.hardware_address(interface).is_none() {
            return AddressState::Assigned;
        }
        // More addresses than are checked: used as they are.
        let begun = lock(&self.duplicates).add(now, interface, address, mode);
        begun.unwrap_or(AddressState::Assigned)
    }

    /// Takes an address that was made from an advertised prefix from an interface: connections from it fail.
    pub(super) fn remove_autoconfigured(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        wakes: &mut WakeList,
    ) {
        lock(&self.duplicates).remove(interface, address);
        self.set_solicited_node(now, interface, address, SourceFilter::nothing());
        self.network.remove_autoconfigured(interface, address);
        self.fail_connections_from(now, interface, address, wakes);
    }

    /// Takes an address and the route to its network from an interface: connections from it fail.
    pub(super) fn remove_address(
        &self,
        now: Instant,
        interface: InterfaceId,
        cidr: Cidr,
        wakes: &mut WakeList,
    ) {
        lock(&self.duplicates).remove(interface, cidr.address());
        self.set_solicited_node(now, interface, cidr.address(), SourceFilter::nothing());
        self.network.remove_address(interface, cidr);
        self.fail_connections_from(now, interface, cidr.address(), wakes);
    }

    /// The addresses of all interfaces and what became of them.
    pub fn addresses(&self) -> Vec<InterfaceAddress> {
        self.network.addresses()
    }

    /// Whether no address is still being asked for, or nobody asks any more since the stack has ended; if not, the waker
    /// is woken when that may have changed.
    pub(crate) fn addresses_settled(&self, waker: &Waker) -> bool {
        let is_settled = || {
            let addresses = self.network.addresses();
            let mut states = addresses.iter().map(|address| address.state);
            let is_unsettled = states.any(|state| state == AddressState::Tentative);
            let is_asking = self.is_looking_for_leases()
                || self.is_asking_by_rarp()
                || self.is_looking_for_routers();
            self.has_ended() || !(is_unsettled || is_asking)
        };
        if is_settled() {
            return true;
        }
        self.wait_for_addresses(waker);
        // It may have been settled since the first look.
        is_settled()
    }

    /// The oldest loss of an address that nobody has been told of yet; if there is none, the waker is woken when that may
    /// have changed.
    ///
    /// # Errors
    /// `NetworkDown` when the stack has ended.
    pub(crate) fn poll_lost_address(&self, waker: &Waker) -> Poll<SocketResult<LostAddress>> {
        let look = || match lock(&self.lost_addresses).pop_front() {
            Some(lost) => Poll::Ready(Ok(lost)),
            None if self.has_ended() => Poll::Ready(Err(SocketError::NetworkDown)),
            None => Poll::Pending,
        };
        let first = look();
        if first.is_ready() {
            return first;
        }
        self.wait_for_addresses(waker);
        look()
    }

    /// Has the waker woken when something becomes of an address.
    fn wait_for_addresses(&self, waker: &Waker) {
        // Cloned and, if it is not needed, dropped while no lock is held.
        let mut waker = Some(waker.clone());
        // A task that is polled again and again waits once.
        let mut waiters = lock(&self.address_waiters);
        if let Some(waker) = waker.take_if(|own| !waiters.iter().any(|w| w.will_wake(own))) {
            waiters.push(waker);
        }
    }

    fn note_lost_address(&self, lost: LostAddress) {
        let mut losses = lock(&self.lost_addresses);
        if losses.len() == MAX_LOST_ADDRESSES {
            losses.pop_front();
        }
        losses.push_back(lost);
    }

    /// Sends what duplicate detection has to send, and does what it has found out.
    pub(crate) fn settle_duplicates(&self, now: Instant, wakes: &mut WakeList) {
        loop {
            let (probes, event) = {
                let mut duplicates = lock(&self.duplicates);
                let probes: Vec<_> = std::iter::from_fn(|| duplicates.poll_transmit()).collect();
                (probes, duplicates.poll_event())
            };
            for probe in probes {
                if let Some(ours) = self.network.hardware_address(probe.interface) {
                    let reply = Reply {
                        interface: probe.interface,
                        packet: probe.to_packet(ours),
                        way: ReplyWay::Frame,
                    };
                    // Full of replies already: counted as such, and as good as lost on the link.
                    let _ = self.queue_reply(ShardId::FIRST, reply);
                }
            }
            match event {
                Some(event) => self.handle_duplicate_event(now, event, wakes),
                None => break,
            }
        }
        let deadline = lock(&self.duplicates).poll_timeout();
        self.note_housekeeping(deadline);
    }

    pub(super) fn handle_duplicate_event(
        &self,
        now: Instant,
        event: DadEvent,
        wakes: &mut WakeList,
    ) {
        match event {
            DadEvent::Assigned { interface, address } => {
                self.network
                    .set_address_state(interface, address, AddressState::Assigned);
                lock(&self.neighbors).resume(now, interface);
                // Reports from the unspecified address are for routers alone: switches do not listen to them (RFC 3590 4).
                if is_link_local(address) {
                    lock(&self.memberships).announce(now, interface, true);
                }
                self.pump_links(now);
            }
            DadEvent::Duplicate {
                interface,
                address,
                owner,
            } => {
                tracing::error!(interface = interface.0, %address, ?owner, "another host has this address: it is given up");
                // RFC 5227 2.4: peers are told of the end while the address can still be sent from.
                self.fail_connections_from(now, interface, address, wakes);
                self.network
                    .set_address_state(interface, address, AddressState::Duplicate);
                self.set_solicited_node(now, interface, address, SourceFilter::nothing());
                // Another thread may have opened one meanwhile.
                self.fail_connections_from(now, interface, address, wakes);
                self.decline_lease(now, interface, address);
                self.replace_duplicate(now, interface, address, wakes);
                self.note_lost_address(LostAddress {
                    interface,
                    address,
                    owner,
                });
            }
            DadEvent::Conflict {
                interface,
                address,
                owner,
            } => {
                tracing::warn!(interface = interface.0, %address, %owner, "another host uses this address, too");
            }
        }
        self.settle_groups(now);
        self.wake_address_waiters(wakes);
    }

    pub(super) fn wake_address_waiters(&self, wakes: &mut WakeList) {
        for waker in std::mem::take(&mut *lock(&self.address_waiters)) {
            wakes.push(waker);
        }
    }

    fn fail_connections_from(
        &self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        wakes: &mut WakeList,
    ) {
        let connections: Vec<_> = read(&self.connections)
            .sorted()
            .into_iter()
            .cloned()
            .collect();
        for slot in connections {
            let mut state = slot.lock();
            let local = state.socket.tuple().local;
            // A link-local address is another one on another link.
            if local == with_zone(address, local.port(), interface) {
                let tuple = state.socket.tuple();
                let socket = &mut state.socket;
                let connection = &mut socket.connection;
                if let Some(reset) = connection.farewell(now) {
                    self.reply_tcp(now, tuple, socket.route.as_deref(), reset);
                }
                connection.fail(SocketError::AddressNotAvailable);
                self.settle_tcp(now, &slot, &mut state, wakes);
            }
        }
    }
}

/// Lost addresses that wait for somebody to ask; of more, the oldest are forgotten.
const MAX_LOST_ADDRESSES: usize = 64;

/// The link-local address that an interface has from its hardware address (RFC 4291 2.5.6 and appendix A, RFC 2464 5).
pub(crate) fn link_local(hardware: MacAddress) -> Option<Cidr> {
    let prefix = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    Cidr::new(address_of(prefix, modified_eui64(hardware)).into(), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_comes_from_the_hardware_address() {
        // RFC 2464 4: the example of the identifier's making.
        let hardware = "34:56:78:9a:bc:de".parse().unwrap();
        let expected = "fe80::3656:78ff:fe9a:bcde/64".parse().unwrap();
        assert_eq!(link_local(hardware), Some(expected));
    }
}
