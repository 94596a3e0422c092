//! AF_PACKET sockets and their options (packet(7), `include/uapi/linux/if_packet.h`).

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// One instruction of a classic BPF program (`Documentation/networking/filter.rst`).
pub(in crate::linux) type Instruction = libc::sock_filter;

/// An option of a packet socket whose value is one `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linux) enum NumberOption {
    /// `PACKET_VNET_HDR`: a virtio-net header of 10 octets before each packet, both ways.
    VirtioHeader,
    /// `PACKET_IGNORE_OUTGOING`: what this machine sends on the interface does not come back.
    IgnoreOutgoing,
}

/// A membership of the interface (`PACKET_ADD_MEMBERSHIP`), which ends with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linux) enum Membership {
    /// The network card takes frames for every station.
    Promiscuous,
    /// The network card takes frames for every group.
    AllMulticast,
}

/// Which of a socket's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linux) enum Buffer {
    /// What was sent and is not on the wire yet.
    Send,
    /// What has come and is not read yet.
    Receive,
}

/// A raw, non-blocking packet socket that no packet comes to until it is bound.
pub(in crate::linux) fn open() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointer.
    let descriptor = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(descriptor)?;
    // SAFETY: the descriptor is new, open, and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Binds to all protocols of an interface: from now on its packets come.
pub(in crate::linux) fn bind(socket: &File, interface: c_int) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: bind reads one `sockaddr_ll`, whose size it is given.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })
}

/// The interface that the socket is bound to; -1 once that is removed.
pub(in crate::linux) fn bound_interface(socket: &File) -> io::Result<c_int> {
    // SAFETY: `sockaddr_ll` is a C struct of integers; all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: getsockname writes at most `len` octets to the address, which has that many, and one length. A socket
    // of another family leaves integers in it, which are valid whatever they mean.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
    })?;
    Ok(address.sll_ifindex)
}

/// Sets an option of one `int`.
pub(in crate::linux) fn set_number(
    socket: &File,
    option: NumberOption,
    value: c_int,
) -> io::Result<()> {
    let name = match option {
        NumberOption::VirtioHeader => libc::PACKET_VNET_HDR,
        NumberOption::IgnoreOutgoing => libc::PACKET_IGNORE_OUTGOING,
    };
    set_option(socket, libc::SOL_PACKET, name, &value)
}

/// `PACKET_ADD_MEMBERSHIP`.
pub(in crate::linux) fn add_membership(
    socket: &File,
    interface: c_int,
    membership: Membership,
) -> io::Result<()> {
    let kind = match membership {
        Membership::Promiscuous => libc::PACKET_MR_PROMISC,
        Membership::AllMulticast => libc::PACKET_MR_ALLMULTI,
    };
    let request = libc::packet_mreq {
        mr_ifindex: interface,
        mr_type: kind as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let name = libc::PACKET_ADD_MEMBERSHIP;
    set_option(socket, libc::SOL_PACKET, name, &request)
}

/// Makes a buffer hold `octets` as the kernel accounts for them, beyond the administrator's limit where that is allowed
/// (`SO_SNDBUFFORCE`, `SO_RCVBUFFORCE`), else up to it.
pub(in crate::linux) fn set_buffer(socket: &File, buffer: Buffer, octets: usize) -> io::Result<()> {
    let (force, name) = match buffer {
        Buffer::Send => (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        Buffer::Receive => (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
    };
    // The kernel doubles the value, for its own overhead (socket(7)).
    let half = c_int::try_from(octets / 2).unwrap_or(c_int::MAX);
    match set_option(socket, libc::SOL_SOCKET, force, &half) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            set_option(socket, libc::SOL_SOCKET, name, &half)
        }
        result => result,
    }
}

/// `SO_ATTACH_FILTER`: only packets that the program accepts come. Replaces the filter before.
pub(in crate::linux) fn attach_filter(socket: &File, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// `PACKET_FANOUT` with `PACKET_FANOUT_CBPF`: joins the group of that number, or makes a new one with `None`.
///
/// The group's packets are shared out among its sockets, none comes to two.
pub(in crate::linux) fn join_fanout(socket: &File, group: Option<u16>) -> io::Result<()> {
    let mut flags = libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    if group.is_none() {
        // The kernel finds a number that no other program on the machine has taken.
        flags |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
    }
    let argument = u32::from(group.unwrap_or(0)) | (flags << 16);
    set_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &argument)
}

/// `PACKET_FANOUT`: the number of the group that the socket is in.
pub(in crate::linux) fn fanout_group(socket: &File) -> io::Result<u16> {
    let argument: u32 = option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
    Ok(argument as u16)
}

/// `PACKET_FANOUT_DATA`: the program that gives a packet's socket, modulo the number of sockets.
pub(in crate::linux) fn set_fanout_program(
    socket: &File,
    program: &[Instruction],
) -> io::Result<()> {
    set_program(socket, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
}

/// `SO_ERROR`: the error that the socket has met since the last call, which this clears.
pub(in crate::linux) fn take_error(socket: &File) -> io::Result<Option<io::Error>> {
    let number: c_int = option(socket, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((number != 0).then(|| io::Error::from_raw_os_error(number)))
}

/// `PACKET_STATISTICS`: how many packets the kernel has dropped for want of room since the last call.
pub(in crate::linux) fn take_drops(socket: &File) -> io::Result<u32> {
    // The structure of a socket without a ring is shorter: two numbers.
    let [_, drops, _]: [u32; 3] = option(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
    Ok(drops)
}

/// What may be passed to and from the kernel: plain integers, of which any octets are a valid value.
///
/// # Safety
/// Implemented for types without padding, pointers and invalid values only.
unsafe trait Plain: Copy {}

// SAFETY: integers, and arrays and structures of such; the structures have no gaps between their fields.
unsafe impl Plain for c_int {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for [u32; 3] {}
// SAFETY: as above: 4 + 2 + 2 + 8 octets.
unsafe impl Plain for libc::packet_mreq {}

/// Options of this module take their values from nothing but the value's own octets.
fn set_option<T: Plain>(socket: &File, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: setsockopt reads as many octets as the value has. None of the options that this module sets with plain
    // values takes any part of them for an address.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// The option's value; what the kernel does not write stays zero.
fn option<T: Plain>(socket: &File, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: any octets are a valid `T`, zeroes too.
    let mut value: T = unsafe { mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `len` octets to the value, which has that many, and one length.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// Options that take a program: `SO_ATTACH_FILTER` and `PACKET_FANOUT_DATA`.
fn set_program(
    socket: &File,
    level: c_int,
    name: c_int,
    program: &[Instruction],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: both options read one `sock_fprog` and the `len` instructions it points to, which are borrowed for the
    // call; the kernel copies them and writes nothing.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}
