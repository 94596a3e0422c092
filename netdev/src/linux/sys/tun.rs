//! Requests of `/dev/net/tun` (`include/uapi/linux/if_tun.h`).

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{InterfaceName, check};

/// `TUNSETIFF`: attaches an open `/dev/net/tun` to the interface, which is created if it is missing. Gives its name.
pub(in crate::linux) fn attach_tun(
    tun: &File,
    name: InterfaceName,
    flags: c_int,
) -> io::Result<InterfaceName> {
    let mut request = name.request();
    // `ifr_flags` is 16 bits wide; all TUN flags fit (the highest is 0x8000).
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, and the pointer is to a whole one.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(InterfaceName::of_request(&request))
}

/// `TUNSETVNETHDRSZ`: the size in octets of the virtio-net header before each packet.
pub(in crate::linux) fn set_virtio_header_size(tun: &File, size: usize) -> io::Result<()> {
    let size = size as c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one `int`.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })
}

/// `TUNSETOFFLOAD`: the `TUN_F_*` bits of what the kernel may leave to us. Unknown bits give `EINVAL` and change nothing.
pub(in crate::linux) fn set_tun_offload(tun: &File, bits: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe {
        libc::ioctl(
            tun.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(bits),
        )
    })
}
