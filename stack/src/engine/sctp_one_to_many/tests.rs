//! One-to-many sockets on engines alone.

use std::net::Ipv4Addr;

use tidewire_netdev::{Capabilities, Medium, OffloadSet};

use super::*;
use crate::config::Config;
use crate::ip::{Cidr, InterfaceId};
use crate::sctp::association::AssociationChange;
use crate::transport::ports::BindRequest;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5000);
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 0);

/// Two hosts on a link without delay: the server's and the clients'.
struct Hosts {
    engines: [Engine; 2],
    interface: InterfaceId,
    wakes: WakeList,
}

fn host(address: SocketAddr, seed: u64) -> (Engine, InterfaceId) {
    let engine = Engine::new(Config {
        seed: Some(seed),
        ..Config::default()
    });
    let capabilities = Capabilities {
        medium: Medium::Ip,
        mtu: 1500,
        offloads: OffloadSet::ALL,
        max_super_packet: 65_535,
    };
    let interface = engine.add_interface("link0".to_owned(), capabilities);
    let cidr = Cidr::new(address.ip(), 24).unwrap();
    engine.add_address(Instant::ZERO, interface, cidr);
    (engine, interface)
}

impl Hosts {
    fn new() -> Self {
        let (server, interface) = host(SERVER, 1);
        let (clients, _) = host(CLIENT, 2);
        Self {
            engines: [server, clients],
            interface,
            wakes: WakeList::new(),
        }
    }

    /// Carries packets until there are none.
    fn exchange(&mut self) {
        let mut idle = 0;
        let mut from = 0;
        while idle < 2 {
            let mut batch = Vec::new();
            let [sender, receiver] = [from, 1 - from].map(|side| &self.engines[side]);
            sender.transmit(Instant::ZERO, self.interface, &mut batch, &mut self.wakes);
            idle = if batch.is_empty() { idle + 1 } else { 0 };
            receiver.receive(Instant::ZERO, self.interface, &mut batch, &mut self.wakes);
            from = 1 - from;
        }
        self.wakes.wake_all();
    }

    fn socket(&self, side: usize, address: SocketAddr) -> Arc<OneToManySlot> {
        let engine = &self.engines[side];
        let leases = engine.sctp_bind(&[address], &BindRequest::new(address));
        let (options, limits) = (SctpOptions::default(), OneToManyLimits::default());
        let socket =
            engine.sctp_one_to_many(Instant::ZERO, leases.unwrap(), false, &options, limits);
        socket.unwrap()
    }

    /// A socket of the server that listens.
    fn server(&self) -> Arc<OneToManySlot> {
        let server = self.socket(0, SERVER);
        let endpoint = Arc::clone(server.lock().socket.endpoint());
        self.engines[0].set_sctp_listening(&endpoint, true).unwrap();
        server
    }

    /// A client's association with the server, with a message for it.
    fn associate(&mut self, client: &Arc<OneToManySlot>) -> (AssociationId, Arc<SctpSlot>) {
        let options = SendOptions::default();
        let first = Some((Bytes::from_static(b"hello"), &options));
        let opened = self.engines[1].sctp_open_member(Instant::ZERO, client, &[SERVER], first);
        self.exchange();
        opened.unwrap()
    }

    /// Aborts a client's association.
    fn abort(&mut self, slot: &Arc<SctpSlot>) {
        slot.lock().socket.association.abort(Bytes::new());
        self.engines[1].mark_ready(slot.into());
        self.exchange();
    }

    fn recv(&mut self, socket: &OneToManySlot) -> SocketResult<(AssociationId, SctpMessage)> {
        let (id, slot) = socket.lock().socket.next(Readiness::READABLE)?;
        let mut state = slot.lock();
        let received = state.socket.recv_as_member(id, &mut self.wakes);
        let (_, message) = received.expect("one that is listed has a message");
        Ok((id, message))
    }

    fn event(&mut self, socket: &OneToManySlot) -> SocketResult<(AssociationId, Notification)> {
        loop {
            let (id, slot) = socket.lock().socket.next(Readiness::PRIORITY)?;
            let mut state = slot.lock();
            if let Some(event) = state.socket.event_as_member(id, &mut self.wakes) {
                return Ok((id, event));
            }
        }
    }
}

#[test]
fn what_ended_associations_leave_is_bounded_and_identifiers_are_never_given_twice() {
    let mut hosts = Hosts::new();
    let server = hosts.server();
    let client = hosts.socket(1, CLIENT);
    let mut last = None;
    for _ in 0..1000 {
        let (_, slot) = hosts.associate(&client);
        // The messages are read, the notifications never.
        let (id, _) = hosts.recv(&server).unwrap();
        assert!(last < Some(id), "{id} after {last:?}");
        last = Some(id);
        hosts.abort(&slot);
        let socket = &server.lock().socket;
        assert!(socket.entries.len() <= KEPT_ENDED + 1);
        assert!(socket.eventful.len() <= 2 * (KEPT_ENDED + 1) + LIST_SLACK + 1);
        assert!(socket.readable.is_empty() && socket.ended.len() <= KEPT_ENDED);
    }
    let stats = server.lock().socket.stats();
    assert_eq!((stats.associations, stats.memory), (0, 0));
    assert_eq!(stats.forgotten, 1000 - KEPT_ENDED as u64);
    assert_eq!(hosts.engines[0].sockets().len(), 1, "the listener");
    // The last ones have kept theirs, and leave when they are read.
    let mut told = 0;
    while let Ok((id, _)) = hosts.event(&server) {
        assert!(server.lock().socket.ids().is_empty() && Some(id) <= last);
        told += 1;
    }
    assert_eq!(told, 2 * KEPT_ENDED, "up and lost of each");
    assert!(server.lock().socket.entries.is_empty());
}

#[test]
fn an_association_stands_on_a_list_once_however_much_it_has() {
    let mut hosts = Hosts::new();
    let server = hosts.server();
    let client = hosts.socket(1, CLIENT);
    let (_, slot) = hosts.associate(&client);
    slot.lock().socket.association.set_nodelay(true);
    for _ in 0..50 {
        let message = Bytes::from_static(b"more");
        let sent = slot
            .lock()
            .socket
            .send_as_member(message, &SendOptions::default());
        sent.unwrap();
        hosts.engines[1].mark_ready((&slot).into());
        hosts.exchange();
    }
    assert_eq!(server.lock().socket.readable.len(), 1);
    assert_eq!(server.lock().socket.eventful.len(), 1);
    for left in (0..=10).rev() {
        hosts.recv(&server).unwrap();
        assert_eq!(server.lock().socket.readable.len(), 1, "{left}");
    }
}

#[test]
fn a_peer_that_restarts_keeps_its_identifier() {
    // RFC 9260 5.2; RFC 6458 6.1.1, SCTP_RESTART: the identifier stays.
    let mut hosts = Hosts::new();
    let server = hosts.server();
    let address = SocketAddr::new(CLIENT.ip(), 6000);
    let client = hosts.socket(1, address);
    hosts.associate(&client);
    let (id, _) = hosts.recv(&server).unwrap();
    // The clients' host loses its memory.
    (hosts.engines[1], _) = host(CLIENT, 3);
    let client = hosts.socket(1, address);
    hosts.associate(&client);
    let (again, message) = hosts.recv(&server).unwrap();
    assert_eq!((again, &message.data[..]), (id, &b"hello"[..]));
    let mut changes = Vec::new();
    while let Ok((of, event)) = hosts.event(&server) {
        assert_eq!(of, id);
        if let Notification::AssociationChange(change) = event {
            changes.push(change);
        }
    }
    assert!(
        matches!(
            changes[..],
            [
                AssociationChange::CommunicationUp { .. },
                AssociationChange::Restart { .. }
            ]
        ),
        "{changes:?}"
    );
    assert_eq!(server.lock().socket.ids(), [id]);
}

#[test]
fn one_that_was_peeled_off_is_not_found_on_the_lists() {
    let mut hosts = Hosts::new();
    let server = hosts.server();
    let (first, second) = (hosts.socket(1, CLIENT), hosts.socket(1, CLIENT));
    hosts.associate(&first);
    hosts.associate(&second);
    let ids = server.lock().socket.ids();
    let (engine, mut wakes) = (&hosts.engines[0], WakeList::new());
    let peeled = engine.sctp_peel_off(&server, ids[0], &mut wakes).unwrap();
    let twice = engine.sctp_peel_off(&server, ids[0], &mut wakes);
    assert_eq!(twice.map(drop), Err(SocketError::InvalidInput));
    let (id, _) = hosts.recv(&server).unwrap();
    assert_eq!(id, ids[1]);
    assert_eq!(hosts.recv(&server).map(drop), Err(SocketError::WouldBlock));
    let held = server.lock().socket.stats().memory;
    assert_eq!(held, 0, "the peeled one's message is not the socket's");
    let message = peeled.lock().socket.association.recv(usize::MAX);
    assert_eq!(&message.unwrap().unwrap().data[..], b"hello");
    wakes.wake_all();
}

#[test]
fn a_socket_and_its_associations_do_not_keep_each_other() {
    let mut hosts = Hosts::new();
    let server = hosts.server();
    let client = hosts.socket(1, CLIENT);
    let (_, held) = hosts.associate(&client);
    hosts.recv(&server).unwrap();
    let (server_weak, client_weak) = (Arc::downgrade(&server), Arc::downgrade(&client));
    let slot = Arc::downgrade(&held);
    drop(held);
    let mut wakes = WakeList::new();
    hosts.engines[0].close_one_to_many(Instant::ZERO, &server, &mut wakes);
    hosts.engines[1].close_one_to_many(Instant::ZERO, &client, &mut wakes);
    wakes.wake_all();
    drop((server, client));
    hosts.exchange();
    assert!(server_weak.upgrade().is_none() && client_weak.upgrade().is_none());
    assert_eq!(hosts.engines[1].sockets().len(), 0);
    // Whoever runs the timers lets go of it with its entry.
    let later = Instant::from_nanos(1 << 60);
    for engine in &hosts.engines {
        engine.handle_timeout(later, &mut wakes);
    }
    assert!(slot.upgrade().is_none());
}
