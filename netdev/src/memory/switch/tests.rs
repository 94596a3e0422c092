use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::*;
use crate::memory::Loss;
use crate::offload::{Checksum, Offload};
use crate::test_packets::{Spec, check_wire};

const BROADCAST: MacAddress = MacAddress::BROADCAST;

fn address(device: &Device) -> MacAddress {
    device.hardware_address.expect("every port has one")
}

/// A frame with a number behind its header.
fn frame(to: MacAddress, from: MacAddress, number: u16) -> Packet {
    let mut octets = [to.0, from.0].concat();
    octets.extend([0x88, 0xb5]);
    octets.extend(number.to_be_bytes());
    octets.resize(100, 0);
    Packet::from_bytes(octets.into())
}

fn send(device: &Device, frames: impl IntoIterator<Item = Packet>) {
    let mut queue: VecDeque<Packet> = frames.into_iter().collect();
    device
        .transmitter
        .try_transmit(&mut queue)
        .expect("a switch takes everything");
    assert!(queue.is_empty());
}

fn poll(device: &mut Device) -> Vec<Packet> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(count) = device.receiver.poll_receive(&mut cx, &mut batch, 16) {
        assert!((1..=16).contains(&count.expect("no error")));
    }
    batch
}

/// The numbers of the frames that wait.
fn numbers(device: &mut Device) -> Vec<u16> {
    poll(device).iter().map(number).collect()
}

fn number(frame: &Packet) -> u16 {
    let octet = |at| u16::from(frame.octet(at).expect("a numbered frame"));
    octet(14) << 8 | octet(15)
}

fn switch() -> Switch {
    Switch::new(SwitchConfig::default())
}

fn ports<const N: usize>(switch: &Switch) -> [Device; N] {
    std::array::from_fn(|n| switch.port(PortConfig::named(format!("p{n}"))))
}

/// A TCP super-packet of three segments.
fn super_packet(to: MacAddress, from: MacAddress) -> Packet {
    let mut packet = Spec {
        medium: Medium::Ethernet,
        ..Spec::default()
    }
    .build();
    packet.overwrite(0, &to.0);
    packet.overwrite(6, &from.0);
    packet
}

#[test]
fn devices_have_addresses_of_their_own_that_are_always_the_same() {
    let [a, b] = ports(&switch());
    assert_eq!(address(&a).to_string(), "02:54:57:00:00:00");
    assert_eq!(address(&b).to_string(), "02:54:57:00:00:01");
    assert!(address(&a).is_unicast());
    assert_eq!(a.capabilities.medium, Medium::Ethernet);
    let given = switch().port(PortConfig {
        hardware_address: Some(MacAddress([2; 6])),
        ..PortConfig::default()
    });
    assert_eq!(address(&given), MacAddress([2; 6]));
}

#[test]
fn unknown_stations_are_flooded_until_they_have_spoken() {
    let switch = switch();
    let [mut a, mut b, mut c] = ports(&switch);
    send(&a, [frame(address(&b), address(&a), 1)]);
    assert_eq!(numbers(&mut b), [1]);
    assert_eq!(numbers(&mut c), [1]);
    assert_eq!(numbers(&mut a), []);

    send(&b, [frame(address(&a), address(&b), 2)]);
    assert_eq!(numbers(&mut a), [2]);
    assert_eq!(numbers(&mut c), []);
    send(&a, [frame(address(&b), address(&a), 3)]);
    assert_eq!(numbers(&mut b), [3]);
    assert_eq!(numbers(&mut c), []);

    let stats = switch.monitor().port("p0").expect("plugged in");
    let expected = PortStats {
        received: 2,
        forwarded: 1,
        flooded: 1,
        delivered: 1,
        ..PortStats::default()
    };
    assert_eq!(stats, expected);
    let known = switch.monitor().addresses();
    assert_eq!(
        known,
        [
            (address(&a), "p0".to_owned()),
            (address(&b), "p1".to_owned())
        ]
    );
}

#[test]
fn groups_reach_all_others_but_reserved_ones_nobody() {
    let switch = switch();
    let [mut a, mut b, mut c] = ports(&switch);
    let group = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    send(&b, [frame(BROADCAST, address(&b), 1)]);
    send(&b, [frame(group, address(&b), 2)]);
    let reserved = MacAddress([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    send(&b, [frame(reserved, address(&b), 3)]);
    assert_eq!(numbers(&mut a), [1, 2]);
    assert_eq!(numbers(&mut c), [1, 2]);
    assert_eq!(numbers(&mut b), []);
    assert_eq!(switch.monitor().port("p1").expect("there").filtered, 1);
}

#[test]
fn frames_do_not_go_back_to_where_they_came_from() {
    let switch = switch();
    let [mut a, mut b] = ports(&switch);
    let behind_a = MacAddress([2, 2, 2, 2, 2, 2]);
    send(&a, [frame(BROADCAST, behind_a, 1)]);
    send(&a, [frame(behind_a, address(&a), 2)]);
    assert_eq!(numbers(&mut b), [1]);
    assert_eq!(numbers(&mut a), []);
    assert_eq!(switch.monitor().port("p0").expect("there").filtered, 1);
}

#[test]
fn short_frames_and_frames_from_groups_are_dropped_and_counted() {
    let switch = switch();
    let [a, mut b] = ports(&switch);
    let short = Packet::from_bytes(Bytes::from_static(&[0xff; 13]));
    send(&a, [short, Packet::new(), frame(BROADCAST, BROADCAST, 1)]);
    let mut pieces = Packet::from_bytes(frame(BROADCAST, address(&a), 4).to_bytes().slice(..9));
    pieces.push(frame(BROADCAST, address(&a), 4).to_bytes().slice(9..));
    send(&a, [pieces]);
    assert_eq!(numbers(&mut b), [4]);
    assert_eq!(switch.monitor().port("p0").expect("there").malformed, 3);
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port() {
    let [a, mut b, mut c] = ports(&switch());
    let station = MacAddress([2, 9, 9, 9, 9, 9]);
    send(&b, [frame(BROADCAST, station, 0)]);
    send(&c, [frame(BROADCAST, station, 0)]);
    let (_, _) = (poll(&mut b), poll(&mut c));
    send(&a, [frame(station, address(&a), 1)]);
    assert_eq!(numbers(&mut b), []);
    assert_eq!(numbers(&mut c), [1]);
}

#[test]
fn a_full_table_floods_what_it_does_not_know() {
    let switch = Switch::new(SwitchConfig {
        table_size: 1,
        ..SwitchConfig::default()
    });
    let [a, mut b, mut c] = ports(&switch);
    send(&a, [frame(BROADCAST, address(&a), 0)]);
    send(&b, [frame(address(&a), address(&b), 0)]);
    let (_, _) = (poll(&mut b), poll(&mut c));
    send(&a, [frame(address(&b), address(&a), 1)]);
    assert_eq!(numbers(&mut b), [1]);
    assert_eq!(numbers(&mut c), [1]);
    assert_eq!(switch.monitor().port("p1").expect("there").not_learned, 1);
}

#[tokio::test(start_paused = true)]
async fn addresses_age_in_virtual_time() {
    let switch = switch();
    let [a, mut b, mut c] = ports(&switch);
    send(&b, [frame(BROADCAST, address(&b), 0)]);
    let (_, _) = (poll(&mut b), poll(&mut c));
    tokio::time::advance(Duration::from_secs(299)).await;
    send(&a, [frame(address(&b), address(&a), 1)]);
    assert_eq!(numbers(&mut c), []);
    tokio::time::advance(Duration::from_secs(1)).await;
    send(&a, [frame(address(&b), address(&a), 2)]);
    assert_eq!(numbers(&mut c), [2]);
    assert_eq!(numbers(&mut b), [1, 2]);
    assert_eq!(switch.monitor().addresses().len(), 1);
}

#[test]
fn an_unplugged_device_is_forgotten_and_others_go_on() {
    let switch = switch();
    let [a, mut b, mut c] = ports(&switch);
    send(&b, [frame(BROADCAST, address(&b), 0)]);
    send(&c, [frame(BROADCAST, address(&c), 0)]);
    let (_, _) = (poll(&mut b), poll(&mut c));
    let address_b = address(&b);
    drop(b);
    assert_eq!(switch.monitor().port("p1"), None);
    assert_eq!(switch.monitor().addresses().len(), 1);
    send(&a, [frame(address_b, address(&a), 1)]);
    send(&a, [frame(address(&c), address(&a), 2)]);
    assert_eq!(numbers(&mut c), [1, 2]);
    // Its number, and with it its address, is not used again.
    let d = switch.port(PortConfig::named("p1"));
    assert_ne!(address(&d), address_b);

    // The halves go one by one when a driver ends before its last writer.
    let Device {
        receiver,
        transmitter,
        ..
    } = a;
    drop(receiver);
    let mut queue = VecDeque::from([frame(address(&c), MacAddress([2; 6]), 3)]);
    transmitter.try_transmit(&mut queue).expect("still there");
    assert_eq!(numbers(&mut c), [3]);
    assert!(switch.monitor().port("p0").is_some());
    drop(transmitter);
    assert!(switch.monitor().port("p0").is_none());
    assert_eq!(switch.monitor().addresses().len(), 1);
}

#[test]
fn super_packets_cross_by_reference_and_are_cut_for_those_who_need_it() {
    let switch = switch();
    let [a, mut b] = ports(&switch);
    let mut plain = switch.port(PortConfig {
        name: "plain".to_owned(),
        offloads: OffloadSet::NONE,
        ..PortConfig::default()
    });
    let mut sums = switch.port(PortConfig {
        name: "sums".to_owned(),
        offloads: OffloadSet {
            checksum: true,
            ..OffloadSet::NONE
        },
        ..PortConfig::default()
    });
    let packet = super_packet(BROADCAST, address(&a));
    let (offload, slice) = (packet.offload, packet.body()[0].as_ptr());
    send(&a, [packet]);

    let whole = poll(&mut b);
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].offload, offload);
    assert_eq!(whole[0].body()[0].as_ptr(), slice);

    let cut = poll(&mut plain);
    assert_eq!(cut.len(), 3);
    for packet in &cut {
        assert_eq!(packet.offload, Offload::default());
        check_wire(Medium::Ethernet, &packet.to_bytes()).expect("complete");
    }
    let cut = poll(&mut sums);
    assert_eq!(cut.len(), 3);
    for packet in &cut {
        assert!(matches!(packet.offload.checksum, Checksum::Partial { .. }));
    }
    let stats = switch.monitor();
    assert_eq!(stats.port("plain").expect("there").delivered, 3);
    assert_eq!(stats.port("p1").expect("there").delivered, 1);
}

#[test]
fn cuts_beyond_the_batch_limit_wait_for_the_next() {
    let switch = switch();
    let [a] = ports(&switch);
    let mut plain = switch.port(PortConfig {
        offloads: OffloadSet::NONE,
        ..PortConfig::default()
    });
    send(&a, (0..3).map(|_| super_packet(BROADCAST, address(&a))));
    let mut cx = Context::from_waker(Waker::noop());
    let mut batch = Vec::new();
    for expected in [2, 2, 2, 2, 1] {
        let count = plain.receiver.poll_receive(&mut cx, &mut batch, 2);
        assert!(matches!(count, Poll::Ready(Ok(count)) if count == expected));
    }
    assert!(
        plain
            .receiver
            .poll_receive(&mut cx, &mut batch, 2)
            .is_pending()
    );
}

#[test]
fn frames_over_the_mtu_of_their_port_do_not_leave() {
    let switch = switch();
    let [a] = ports(&switch);
    let mut small = switch.port(PortConfig {
        name: "small".to_owned(),
        mtu: 1000,
        ..PortConfig::default()
    });
    let long = Packet::from_bytes({
        let mut octets = frame(BROADCAST, address(&a), 1).to_bytes().to_vec();
        octets.resize(1015, 0);
        octets.into()
    });
    send(&a, [super_packet(BROADCAST, address(&a)), long]);
    send(&a, [frame(BROADCAST, address(&a), 2)]);
    assert_eq!(numbers(&mut small), [2]);
    assert_eq!(switch.monitor().port("small").expect("there").over_mtu, 2);
}

#[test]
fn a_full_port_drops_and_holds_back_nobody() {
    for (queue_packets, queue_bytes, fits) in [(5, 1 << 20, 5), (1000, 700, 7), (0, 0, 1)] {
        let switch = switch();
        let [a, mut b] = ports(&switch);
        let mut slow = switch.port(PortConfig {
            queue_packets,
            queue_bytes,
            ..PortConfig::named("slow")
        });
        let mut cx = Context::from_waker(Waker::noop());
        send(&a, (0..20).map(|n| frame(BROADCAST, address(&a), n)));
        let ready = a.transmitter.poll_transmit_ready(&mut cx);
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        assert_eq!(numbers(&mut b), (0..20).collect::<Vec<_>>());
        assert_eq!(numbers(&mut slow), (0..fits).collect::<Vec<_>>());
        let stats = switch.monitor().port("slow").expect("there");
        assert_eq!(stats.queue_full, 20 - u64::from(fits));
        send(&a, [frame(BROADCAST, address(&a), 99)]);
        assert_eq!(numbers(&mut slow), [99]);
    }
}

async fn receive(device: &mut Device) -> Vec<Packet> {
    let mut batch = Vec::new();
    poll_fn(|cx| device.receiver.poll_receive(cx, &mut batch, 64))
        .await
        .expect("no error");
    batch
}

fn delayed(milliseconds: u64) -> Option<ImpairmentConfig> {
    Some(ImpairmentConfig::delay(Duration::from_millis(milliseconds)))
}

#[tokio::test(start_paused = true)]
async fn delays_of_both_ports_add_up_and_survive_the_sender() {
    let switch = switch();
    let a = switch.port(PortConfig {
        to_switch: delayed(30),
        ..PortConfig::named("a")
    });
    let [mut b] = ports(&switch);
    let mut c = switch.port(PortConfig {
        from_switch: delayed(12),
        ..PortConfig::named("c")
    });
    let start = Instant::now();
    let waiting = tokio::spawn(async move {
        let batch = receive(&mut b).await;
        (
            start.elapsed(),
            batch.iter().map(number).collect::<Vec<_>>(),
        )
    });
    tokio::task::yield_now().await;
    send(&a, (0..3).map(|n| frame(BROADCAST, address(&a), n)));
    drop(a);
    assert_eq!(receive(&mut c).await.len(), 3);
    assert_eq!(start.elapsed(), Duration::from_millis(42));
    let (elapsed, seen) = waiting.await.expect("no panic");
    assert_eq!((elapsed, seen), (Duration::from_millis(30), vec![0, 1, 2]));
    assert_eq!(switch.monitor().port("a"), None);
}

#[tokio::test(start_paused = true)]
async fn frames_of_several_ports_arrive_in_the_order_of_their_times() {
    let switch = switch();
    let mut senders: Vec<Device> = [25, 5, 15]
        .into_iter()
        .map(|delay| {
            switch.port(PortConfig {
                to_switch: delayed(delay),
                ..PortConfig::default()
            })
        })
        .collect();
    senders.extend(ports::<1>(&switch));
    let mut slow = switch.port(PortConfig {
        from_switch: Some(ImpairmentConfig::default().with_rate(100 * 8 * 1000, 1 << 20)),
        ..PortConfig::default()
    });
    for (n, sender) in senders.iter().enumerate() {
        send(sender, [frame(BROADCAST, address(sender), n as u16)]);
    }
    let start = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        for frame in receive(&mut slow).await {
            seen.push((number(&frame), start.elapsed().as_millis()));
        }
    }
    assert_eq!(seen, [(3, 1), (1, 6), (2, 16), (0, 26)]);
}

#[tokio::test(start_paused = true)]
async fn impairments_are_those_of_their_port_alone() {
    let switch = switch();
    let [a, mut b] = ports(&switch);
    let mut lossy = switch.port(PortConfig {
        from_switch: Some(ImpairmentConfig::default().with_loss(0.5)),
        ..PortConfig::named("lossy")
    });
    let mut corrupt = switch.port(PortConfig {
        from_switch: Some(ImpairmentConfig {
            corrupt: 1.0,
            ..ImpairmentConfig::default()
        }),
        ..PortConfig::named("corrupt")
    });
    send(&a, (0..200).map(|n| frame(BROADCAST, address(&a), n)));
    assert_eq!(numbers(&mut b), (0..200).collect::<Vec<_>>());
    assert!((60..140).contains(&numbers(&mut lossy).len()));
    let damaged = poll(&mut corrupt);
    assert_eq!(damaged.len(), 200);
    let monitor = switch.monitor();
    let stats = monitor.port("lossy").expect("there");
    let impairment = stats.from_switch.expect("impaired");
    assert_eq!(impairment.lost, 200 - stats.delivered);
    assert_eq!(stats.to_switch, None);
    assert_eq!(monitor.port("p1").expect("there").from_switch, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_bounded() {
    let switch = Switch::new(SwitchConfig {
        in_flight_limit: 10 * (100 + size_of::<Packet>()),
        ..SwitchConfig::default()
    });
    let a = switch.port(PortConfig {
        to_switch: delayed(10),
        ..PortConfig::named("a")
    });
    let [mut b] = ports(&switch);
    send(&a, (0..30).map(|n| frame(BROADCAST, address(&a), n)));
    assert_eq!(receive(&mut b).await.len(), 10);
    assert_eq!(
        switch.monitor().port("p0").expect("there").in_flight_full,
        20
    );
}

/// Three hosts that all talk to each other through losses and delays; what each has seen, and when.
async fn all_to_all(seed: u64) -> Vec<Vec<(u128, MacAddress, u16)>> {
    let switch = switch();
    let devices: Vec<Device> = (0..3)
        .map(|n| {
            switch.port(PortConfig {
                to_switch: Some(ImpairmentConfig {
                    jitter: Duration::from_millis(3),
                    loss: Loss::Uniform(0.1),
                    duplicate: 0.05,
                    ..ImpairmentConfig::delay(Duration::from_millis(2 + n))
                }),
                from_switch: Some(
                    ImpairmentConfig::default()
                        .with_rate(2_000_000, 5000)
                        .with_reorder(0.1, Duration::from_millis(4)),
                ),
                seed: seed + n,
                ..PortConfig::named(format!("host{n}"))
            })
        })
        .collect();
    let addresses: Vec<MacAddress> = devices.iter().map(address).collect();
    let start = Instant::now();
    let hosts = devices.into_iter().map(|mut device| {
        let addresses = addresses.clone();
        tokio::spawn(async move {
            let own = address(&device);
            let mut seen = Vec::new();
            for round in 0..40 {
                let others = addresses.iter().filter(|other| **other != own);
                send(&device, others.map(|other| frame(*other, own, round)));
                let turn = start + Duration::from_millis(2 * u64::from(round) + 2);
                while let Ok(batch) = tokio::time::timeout_at(turn, receive(&mut device)).await {
                    for frame in batch {
                        let octets = frame.to_bytes();
                        let to = MacAddress(octets[..6].try_into().expect("six octets"));
                        let from = MacAddress(octets[6..12].try_into().expect("six octets"));
                        if to == own {
                            seen.push((start.elapsed().as_nanos(), from, number(&frame)));
                        }
                    }
                }
            }
            seen
        })
    });
    let hosts: Vec<_> = hosts.collect();
    let mut all = Vec::new();
    for host in hosts {
        all.push(host.await.expect("no panic"));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn three_hosts_talk_all_to_all_and_a_seed_repeats_it() {
    let first = all_to_all(7).await;
    for seen in &first {
        // 80 were sent to each, a tenth of which is lost; some are still under way.
        assert!((45..80).contains(&seen.len()), "{}", seen.len());
    }
    assert_eq!(first, all_to_all(7).await);
    assert_ne!(first, all_to_all(8).await);
}

#[test]
fn a_frame_wakes_its_receiver_once_and_needs_no_runtime() {
    use std::sync::atomic::AtomicUsize;
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let [a, mut b] = ports(&switch());
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut batch = Vec::new();
    for _ in 0..2 {
        let polled = b.receiver.poll_receive(&mut cx, &mut batch, 64);
        assert!(polled.is_pending());
    }
    send(&a, (0..5).map(|n| frame(BROADCAST, address(&a), n)));
    send(&a, (0..5).map(|n| frame(BROADCAST, address(&a), n)));
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(numbers(&mut b).len(), 10);
}

#[test]
fn threads_share_a_switch() {
    let switch = switch();
    let devices: [Device; 4] = ports(&switch);
    let start = Arc::new(std::sync::Barrier::new(4));
    let threads = devices.map(|mut device| {
        let start = Arc::clone(&start);
        std::thread::spawn(move || {
            start.wait();
            let own = address(&device);
            let mut count = 0;
            for n in 0..500 {
                send(&device, [frame(BROADCAST, own, n)]);
                count += poll(&mut device).len();
            }
            start.wait();
            count + poll(&mut device).len()
        })
    });
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), 1500);
    }
}
