//! Sockets of one engine against full and failing devices, hostile peers and each other: nothing waits for ever, grows
//! without bound or holds what it should have let go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::engine::sockets::TcpOptions;
use tidewire::engine::{Engine, FlushOutcome, Ports, SlotRef, TcpSlot, UdpSlot, WakeList};
use tidewire::error::{SocketError, SocketResult};
use tidewire::ip::{Cidr, InterfaceId};
use tidewire::time::Instant;
use tidewire::transport::Readiness;
use tidewire::transport::ports::{BindRequest, PortLease};
use tidewire_integration_tests::world::{LinkConfig, Side, World};
use tidewire_netdev::{Capabilities, Medium, OffloadSet, Packet};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// A device that takes as many packets as it has room for.
#[derive(Default)]
struct Device {
    room: Cell<usize>,
    taken: RefCell<Vec<Packet>>,
    panics: Cell<bool>,
}

impl Ports for Device {
    fn try_transmit(
        &self,
        _: InterfaceId,
        _: usize,
        queue: &mut VecDeque<Packet>,
    ) -> io::Result<()> {
        assert!(!self.panics.get(), "as a device might");
        let count = self.room.get().min(queue.len());
        self.room.set(self.room.get() - count);
        self.taken.borrow_mut().extend(queue.drain(..count));
        if queue.is_empty() {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

/// 10.0.0.1/24 on one device, with a route to everywhere.
fn host() -> (Engine, InterfaceId) {
    let engine = Engine::new(Config {
        seed: Some(1),
        ..Config::default()
    });
    let capabilities = Capabilities {
        medium: Medium::Ip,
        mtu: 1500,
        offloads: OffloadSet::ALL,
        max_super_packet: 65_535,
    };
    let interface = engine.add_interface("mem0".to_owned(), capabilities);
    let cidr = Cidr::new(OWN, 24).expect("a valid prefix");
    engine.add_address(Instant::ZERO, interface, cidr);
    (engine, interface)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn udp(engine: &Engine, bound: &str) -> Arc<UdpSlot> {
    let request = BindRequest::new(address(bound));
    engine.udp_bind(&request).expect("the port is free")
}

fn tcp_bind(engine: &Engine, bound: &str) -> SocketResult<PortLease> {
    engine.tcp_bind(&BindRequest::new(address(bound)))
}

fn connect(engine: &Engine, remote: &str) -> SocketResult<Arc<TcpSlot>> {
    engine.tcp_connect(Instant::ZERO, None, address(remote), &TcpOptions::default())
}

fn send(engine: &Engine, socket: &Arc<UdpSlot>, to: &str) -> SocketResult<usize> {
    engine.udp_send(Instant::ZERO, socket, b"datagram", Some(address(to)))
}

fn flush(engine: &Engine, device: &Device) {
    let mut wakes = WakeList::new();
    while engine.flush(Instant::ZERO, device, &mut wakes) == FlushOutcome::Unfinished {}
    wakes.wake_all();
}

/// What the driver does when a device says that it has room again.
fn drive(engine: &Engine, interface: InterfaceId, device: &Device, room: usize) {
    device.room.set(room);
    if engine.is_blocked(interface) {
        engine.unblock(interface);
    }
    flush(engine, device);
}

#[test]
fn a_socket_held_back_goes_on_whoever_finds_that_the_device_has_room() {
    let (engine, interface) = host();
    let (device, socket) = (Device::default(), udp(&engine, "10.0.0.1:1000"));
    for _ in 0..3 {
        send(&engine, &socket, "10.0.0.2:7").expect("room in the socket");
        flush(&engine, &device);
    }
    assert!(engine.is_blocked(interface));
    assert_eq!(device.taken.borrow().len(), 0);
    // Somebody else flushes before the driver has noticed that there is room.
    device.room.set(10);
    let other = udp(&engine, "10.0.0.1:1001");
    send(&engine, &other, "10.0.0.2:7").expect("room in the socket");
    flush(&engine, &device);
    drive(&engine, interface, &device, 10);
    assert_eq!(device.taken.borrow().len(), 4);
    // And a later one as well.
    send(&engine, &socket, "10.0.0.2:7").expect("room in the socket");
    flush(&engine, &device);
    assert_eq!(device.taken.borrow().len(), 5);
}

#[test]
fn a_device_that_takes_a_packet_at_a_time_does_not_make_the_queue_grow() {
    let (engine, interface) = host();
    let (device, socket) = (Device::default(), udp(&engine, "10.0.0.1:1000"));
    let mut sent = 0;
    let mut waiting = |rounds: usize| {
        for _ in 0..rounds {
            while send(&engine, &socket, "10.0.0.2:7").is_ok() {
                sent += 1;
            }
            drive(&engine, interface, &device, 1);
        }
        sent - device.taken.borrow().len()
    };
    let at_first = waiting(10);
    let later = waiting(2000);
    assert!(
        later <= at_first + 64,
        "{at_first} packets waited at first, {later} later"
    );
    let state = socket.lock();
    assert!(!state.ready.bits().intersects(Readiness::WRITABLE));
}

#[test]
fn a_flood_of_what_must_be_refused_does_not_pile_up_before_a_full_device() {
    let mut world = World::new(&LinkConfig::default());
    // As many SYNs to a closed port as there are ephemeral ports, nearly.
    for _ in 0..20_000 {
        world.connect(false, 81).expect("a free port");
    }
    let (mut syns, mut wakes) = (Vec::new(), WakeList::new());
    let interface = InterfaceId(InterfaceId::LOOPBACK.0 + 1);
    world
        .engine(Side::A)
        .transmit(world.now, interface, &mut syns, &mut wakes);
    assert_eq!(syns.len(), 20_000);
    let (victim, device) = (world.engine(Side::B), Device::default());
    for syn in syns {
        victim.receive(Instant::ZERO, interface, &mut vec![syn], &mut wakes);
        flush(victim, &device);
    }
    drive(victim, interface, &device, usize::MAX);
    let answers = device.taken.borrow().len();
    assert!((1..=2048).contains(&answers), "{answers} resets waited");
    wakes.wake_all();
    world.flush();
}

#[test]
fn a_reset_that_a_full_device_does_not_take_is_not_waited_for() {
    let mut world = World::new(&LinkConfig::default());
    let listener = world.listen(Side::B, false, 80).expect("the port is free");
    let client = world.connect(false, 80).expect("B is reachable");
    assert!(world.run_until(Duration::from_secs(1), |_| {
        listener.lock().socket.queued() > 0
    }));
    let (server, _) = world
        .engine(Side::B)
        .tcp_accept(&listener)
        .expect("it waits");
    let unread = server.lock().socket.connection.write(b"unread");
    assert_eq!(unread, Ok(6));
    world.engine(Side::B).mark_ready(SlotRef::from(&server));
    world.flush();
    assert!(world.run_until(Duration::from_secs(1), |_| {
        client.lock().socket.connection.info().receive_buffered == 6
    }));
    let (engine, mut wakes) = (world.engine(Side::A), WakeList::new());
    let device = Device::default();
    send(engine, &udp(engine, "10.0.0.1:1000"), "10.0.0.2:7").expect("room in the socket");
    flush(engine, &device);
    engine.close_tcp(world.now, &client, &mut wakes);
    flush(engine, &device);
    assert_eq!(engine.orphan_count(), 1);
    assert!(!engine.has_undelivered(), "nothing but a reset is left");
    drive(
        engine,
        InterfaceId(InterfaceId::LOOPBACK.0 + 1),
        &device,
        10,
    );
    assert_eq!(engine.orphan_count(), 0);
    wakes.wake_all();
}

#[test]
fn a_panic_of_a_device_in_a_writers_flush_does_not_stop_the_stack() {
    let (engine, interface) = host();
    let (device, socket) = (Device::default(), udp(&engine, "10.0.0.1:1000"));
    let other = udp(&engine, "10.0.0.1:1001");
    device.panics.set(true);
    for socket in [&socket, &other] {
        send(&engine, socket, "10.0.0.2:7").expect("room in the socket");
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = catch_unwind(AssertUnwindSafe(|| flush(&engine, &device)));
    std::panic::set_hook(hook);
    assert!(panicked.is_err());
    device.panics.set(false);
    drive(&engine, interface, &device, 10);
    assert_eq!(device.taken.borrow().len(), 2);
}

#[test]
fn closing_frees_the_port_at_once_whatever_lists_still_hold_the_socket() {
    let mut world = World::new(&LinkConfig::default());
    let listener = world.listen(Side::B, false, 80).expect("the port is free");
    let client = world.connect(false, 80).expect("B is reachable");
    // The SYN has armed the listener's timer.
    assert!(!world.run_until(Duration::from_millis(6), |_| false));
    let (engine, mut wakes) = (world.engine(Side::B), WakeList::new());
    engine.close_listener(world.now, &listener, &mut wakes);
    drop(listener);
    drop(tcp_bind(engine, "10.0.0.2:80").expect("free again"));

    let socket = udp(engine, "10.0.0.2:1000");
    send(engine, &socket, "10.0.0.1:7").expect("room in the socket");
    engine.close_udp(world.now, &socket);
    drop(socket);
    drop(udp(engine, "10.0.0.2:1000"));
    world
        .engine(Side::A)
        .close_tcp(world.now, &client, &mut wakes);
    wakes.wake_all();
}

#[test]
fn a_mapped_address_clashes_with_the_ipv4_address_it_is() {
    let cases = [
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
        ("[::ffff:127.0.0.1]:80", "0.0.0.0:80", true),
        ("[::ffff:0.0.0.0]:80", "127.0.0.1:80", true),
        ("[::ffff:127.0.0.1]:80", "[::]:80", true),
        ("[::ffff:127.0.0.1]:80", "127.0.0.2:80", false),
    ];
    for (first, second, clash) in cases {
        let (engine, _) = host();
        let held = tcp_bind(&engine, first).expect("free");
        let result = tcp_bind(&engine, second).map(drop);
        let expected = if clash {
            Err(SocketError::AddressInUse)
        } else {
            Ok(())
        };
        assert_eq!(result, expected, "{first}, then {second}");
        drop(held);
    }
}

#[test]
fn unspecified_peers_are_this_host() {
    let cases = [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("[::ffff:0.0.0.0]:80", "[::ffff:127.0.0.1]:80"),
    ];
    for (given, taken) in cases {
        let (engine, _) = host();
        let slot = connect(&engine, given).expect("this host is reachable");
        assert_eq!(slot.lock().socket.remote(), address(taken), "{given}");
    }
}

#[test]
fn nobody_connects_to_a_broadcast_address() {
    // RFC 9293 MUST-46.
    for remote in ["255.255.255.255:80", "10.0.0.255:80", "224.0.0.1:80"] {
        let (engine, _) = host();
        let result = connect(&engine, remote).map(drop);
        assert_eq!(result, Err(SocketError::NetworkUnreachable), "{remote}");
    }
}

#[test]
fn loopback_addresses_stay_inside() {
    // RFC 1122 3.2.1.3 (g).
    let (engine, _) = host();
    let socket = udp(&engine, "127.0.0.1:1000");
    assert_eq!(
        send(&engine, &socket, "10.0.0.2:7"),
        Err(SocketError::InvalidInput)
    );
    send(&engine, &socket, "10.0.0.1:7").expect("an address of this host");
    let lease = tcp_bind(&engine, "127.0.0.1:80").expect("free");
    let remote = address("10.0.0.2:80");
    let result = engine.tcp_connect(Instant::ZERO, Some(lease), remote, &TcpOptions::default());
    assert_eq!(result.map(drop), Err(SocketError::InvalidInput));
}

#[test]
fn a_socket_bound_to_a_group_or_a_broadcast_address_sends_from_the_hosts_own() {
    // RFC 1122 3.2.1.3: neither is ever a source.
    for bound in ["224.0.0.9:1000", "10.0.0.255:1000", "255.255.255.255:1000"] {
        let (engine, interface) = host();
        let (device, socket) = (Device::default(), udp(&engine, bound));
        send(&engine, &socket, "10.0.0.2:7").expect("room in the socket");
        engine
            .udp_connect(Instant::ZERO, &socket, address("10.0.0.2:7"))
            .expect("reachable");
        assert_eq!(socket.lock().socket.local(), address(bound));
        send(&engine, &socket, "10.0.0.2:7").expect("room in the socket");
        drive(&engine, interface, &device, 10);
        let taken = device.taken.borrow();
        assert_eq!(taken.len(), 2, "{bound}");
        for packet in taken.iter() {
            assert_eq!(packet.contiguous()[12..16], [10, 0, 0, 1], "{bound}");
        }
    }
}

#[test]
fn a_backlog_has_a_limit() {
    // Linux's somaxconn: programs pass -1 for "as many as possible", and a peer must not fill memory by it.
    let (engine, _) = host();
    let lease = tcp_bind(&engine, "127.0.0.1:80").expect("free");
    let listener = engine
        .tcp_listen(lease, u32::MAX, false, &TcpOptions::default())
        .expect("nobody listens");
    let sockets = engine.sockets();
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].send_queue, 4096);
    let mut wakes = WakeList::new();
    engine.close_listener(Instant::ZERO, &listener, &mut wakes);
    wakes.wake_all();
}
