//! Connections with the kernel, recorded and judged by Wireshark.

#![cfg(target_os = "linux")]

use std::fs::File;
use std::time::Duration;

use tidewire_integration_tests::bodies::{body, hash};
use tidewire_integration_tests::exchange::exchange;
use tidewire_integration_tests::kernel::wireshark::{UNSOUND, found, join};
use tidewire_integration_tests::kernel::{Family, LinkConfig, Recording, Role, on_each_family};
use tidewire_integration_tests::requirements::{missing_program, skip};
use tidewire_netdev::capture::{Capture, CaptureConfig, Direction};
use tidewire_netdev::checksum::Sum;
use tidewire_netdev::{Medium, Packet};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn wireshark_finds_nothing_wrong() {
    // RFC 9293 MUST-2.
    const TEST: &str = "wireshark_finds_nothing_wrong";
    if let Some(reason) = missing_program("tshark") {
        return skip(TEST, &reason);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("capture.pcapng");
    let config = LinkConfig {
        capture: Some(Recording {
            path: path.clone(),
            limit: None,
        }),
        // This side sends nothing twice, however late it gets to run.
        tcp: tidewire::tcp::Config {
            tail_loss_probe: false,
            ..tidewire::tcp::Config::default()
        },
        ..LinkConfig::default()
    };
    on_each_family(TEST, LIMIT, &config, async move |link, family| {
        for role in Role::ALL {
            let (mut ours, mut kernel) = link.connected(role, family).await;
            let (up, down) = (body(1, 1 << 20), body(2, 1 << 20));
            exchange(&mut ours, &mut kernel, &up, &down)
                .await
                .expect("alive");
        }
        one_datagram_each_way(link, family).await;
        // The last ACKs of the connections.
        tokio::time::sleep(Duration::from_millis(100)).await;
        link.flush_capture();
        assert_eq!(
            found(&path, "tcp.flags.syn == 1 && tcp.flags.ack == 0").len(),
            2
        );
        let fins = found(&path, "tcp.flags.fin == 1 && !tcp.analysis.retransmission");
        assert_eq!(fins.len(), 4, "{}", fins.join("\n"));
        let cut = found(&path, "tcp.len > 1000").len();
        assert!(cut > 2000, "super-packets appear cut: {cut} segments");
        let bad = [
            UNSOUND,
            "icmp || icmpv6.type < 128",
            "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment",
            "tcp.flags.reset == 1",
            // The kernel may probe the tail (RFC 8985 7) when this process has not run for some milliseconds.
            "((ip.src == 10.7.0.2 || ipv6.src == fd07::2) && (tcp.analysis.out_of_order || \
             tcp.analysis.retransmission || tcp.analysis.fast_retransmission))",
        ];
        let found = found(&path, &bad.join(" || "));
        assert!(found.is_empty(), "{}", found.join("\n"));
        let (sent_again, probes) = (
            link.counted("TcpRetransSegs"),
            link.counted("TcpExtTCPLossProbes"),
        );
        assert!(sent_again <= probes, "{}", link.report());
    });
}

async fn one_datagram_each_way(link: &tidewire_integration_tests::kernel::Link, family: Family) {
    let ours = link
        .stack
        .udp_socket((family.stack(), 0))
        .await
        .expect("free");
    let kernel = tokio::net::UdpSocket::bind((family.kernel(), 0))
        .await
        .expect("free");
    let mut buffer = [0; 3000];
    let payload = body(3, 3000);
    ours.send_to(&payload, kernel.local_addr().expect("bound"))
        .await
        .expect("sent");
    let (len, from) = kernel.recv_from(&mut buffer).await.expect("received");
    assert!(buffer[..len] == payload);
    kernel.send_to(&buffer[..len], from).await.expect("sent");
    assert_eq!(ours.recv(&mut buffer).await.expect("received"), 3000);
}

/// The judge sees what it is there to see.
#[test]
fn wireshark_finds_what_is_wrong() {
    const TEST: &str = "wireshark_finds_what_is_wrong";
    if let Some(reason) = missing_program("tshark") {
        return skip(TEST, &reason);
    }
    let mut sound = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    sound.extend([10, 7, 0, 1, 10, 7, 0, 2]);
    sound.extend([0x80, 0, 0x80, 1, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let fill = |packet: &mut [u8]| {
        let mut header = Sum::default();
        header.add_bytes(&packet[..20]);
        packet[10..12].copy_from_slice(&header.finish().to_be_bytes());
        let mut udp = Sum::default();
        udp.add_bytes(&packet[12..20]);
        udp.add_bytes(&[0, 17, 0, 16]);
        udp.add_bytes(&packet[20..]);
        packet[26..28].copy_from_slice(&udp.finish().to_be_bytes());
    };
    fill(&mut sound);
    let mut bad_header = sound.clone();
    bad_header[4] ^= 1;
    let mut bad_payload = sound.clone();
    bad_payload[30] ^= 1;
    let mut bad_tcp = sound.clone();
    bad_tcp[9] = 6;
    bad_tcp[10] += 11;
    // SCTP's SHUTDOWN COMPLETE, without a CRC32c.
    let mut bad_sctp = sound[..20].to_vec();
    bad_sctp[9] = 132;
    bad_sctp.extend([0x80, 0, 0x80, 1, 1, 2, 3, 4, 0, 0, 0, 0, 14, 0, 0, 4]);
    bad_sctp[10..12].fill(0);
    let mut header = Sum::default();
    header.add_bytes(&bad_sctp[..20]);
    bad_sctp[10..12].copy_from_slice(&header.finish().to_be_bytes());
    let packets = [sound, bad_header, bad_payload, bad_tcp, bad_sctp];

    let folder = tempfile::tempdir().expect("a folder");
    let captures = packets.map(|packet| {
        let path = folder.path().join(format!("{}.pcapng", hash(&packet)));
        let file = File::create(&path).expect("a file");
        let mut capture = Capture::new(file, CaptureConfig::default()).expect("a capture");
        let interface = capture.add_interface("tun0", Medium::Ip).expect("written");
        let packet = Packet::from_bytes(packet.into());
        let recorded = capture.record(interface, Direction::Inbound, Duration::ZERO, &packet);
        recorded.expect("written");
        path
    });
    let all = folder.path().join("all.pcapng");
    join(&captures, &all).expect("our own files");
    let unsound = found(&all, UNSOUND);
    assert_eq!(unsound.len(), 4, "{}", unsound.join("\n"));
    assert!(found(&all, &format!("({UNSOUND}) && frame.number == 1")).is_empty());
}
