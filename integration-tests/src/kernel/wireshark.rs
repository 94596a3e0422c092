//! Wireshark as a judge of what was recorded.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What finds packets that no correct host sends: 0 is a bad checksum, 1 a good one. What an ICMP error quotes has been
/// cut off, and perhaps had its checksum still to come. A kernel that completes a checksum in software writes 0xffff for
/// 0, not only for UDP (`CSUM_MANGLED_0` in `skb_checksum_help`): the sum is right, but Wireshark frowns; ours never has
/// it.
pub const UNSOUND: &str = "_ws.malformed || ip.checksum.status == 0 || \
     icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || \
     (!icmp && !icmpv6 && ((tcp && !(tcp.checksum.status == 1) && \
     !(tcp.checksum == 0xffff && !(ip.src == 10.7.0.2 || ipv6.src == fd07::2))) || udp.checksum.status == 0 || \
     (sctp && !(sctp.checksum.status == 1))))";

/// What the payload of our ports is: nothing. Otherwise random octets on a port that happens to be that of a protocol
/// (an ephemeral 6667 is IRC's) are now and then a malformed packet of it.
const UNDISSECTED: [&str; 3] = [
    "tcp.port==1-65535,data",
    "udp.port==1-65535,data",
    "sctp.port==1-65535,data",
];

/// The packets of a capture that a display filter finds, a line each. Payloads of TCP, UDP and SCTP are not looked into.
///
/// # Panics
/// Without `tshark`, or when it does not understand.
pub fn found(path: &Path, filter: &str) -> Vec<String> {
    let output = Command::new("tshark")
        .args(["-o", "tcp.check_checksum:TRUE"])
        .args(["-o", "udp.check_checksum:TRUE"])
        .args(["-o", "ip.check_checksum:TRUE"])
        .args(["-o", "sctp.checksum:CRC 32c"])
        .args(UNDISSECTED.iter().flat_map(|rule| ["-d", rule]))
        .args(["-n", "-r"])
        .arg(path)
        .args(["-Y", filter])
        .output()
        .expect("tshark");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// Puts captures one after the other in one file, which pcapng allows: one run of Wireshark is faster than many.
///
/// # Errors
/// Those of the files.
pub fn join(captures: &[PathBuf], to: &Path) -> io::Result<()> {
    let mut joined = File::create(to)?;
    for capture in captures {
        io::copy(&mut File::open(capture)?, &mut joined)?;
    }
    Ok(())
}
