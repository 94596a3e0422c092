//! System calls that the standard library does not have, each behind a safe function.
//!
//! This is the only folder of the workspace with unsafe code. Every function here is sound for all arguments: what
//! a system call could read or write lies in values that the function itself owns. Reading and writing packets
//! needs nothing of this: [`std::fs::File`] does it.
//!
//! This file has what all devices need; [`tun`] has TUN's and TAP's requests, [`packet_socket`] the options of
//! AF_PACKET, [`ring`] its mapped receive ring.

#![allow(unsafe_code)]

pub(super) mod packet_socket;
pub(super) mod ring;
pub(super) mod tun;

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

use crate::mac::MacAddress;

/// The name of a network interface as the kernel takes it: 1 to 15 octets, no `/`, no white space, no NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterfaceName([u8; libc::IFNAMSIZ]);

impl InterfaceName {
    /// The empty name: the kernel chooses one.
    pub(super) const ANY: Self = Self([0; libc::IFNAMSIZ]);

    /// Checks a name (`dev_valid_name` in the kernel has the same rules).
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let valid = (1..libc::IFNAMSIZ).contains(&name.len())
            && name != "."
            && name != ".."
            && !name.bytes().any(|octet| {
                octet == 0 || octet == b'/' || octet == b':' || octet.is_ascii_whitespace()
            });
        if !valid {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{name:?} is no interface name: use 1 to {} octets without white space, '/' and ':'",
                    libc::IFNAMSIZ - 1
                ),
            ));
        }
        let mut octets = [0; libc::IFNAMSIZ];
        octets[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(octets))
    }

    /// The name without its padding.
    pub(super) fn to_text(self) -> String {
        let end = self.0.iter().position(|&octet| octet == 0);
        String::from_utf8_lossy(&self.0[..end.unwrap_or(self.0.len())]).into_owned()
    }

    fn request(self) -> libc::ifreq {
        // SAFETY: `ifreq` is a C struct of integers, arrays and a union of such; all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        for (to, &from) in request.ifr_name.iter_mut().zip(&self.0) {
            *to = from as libc::c_char;
        }
        request
    }

    fn of_request(request: &libc::ifreq) -> Self {
        let mut octets = [0; libc::IFNAMSIZ];
        for (to, &from) in octets.iter_mut().zip(&request.ifr_name) {
            *to = from as u8;
        }
        Self(octets)
    }
}

/// The settings of interfaces in the network namespace of the thread that made it.
#[derive(Debug)]
pub(super) struct InterfaceControl(UnixDatagram);

impl InterfaceControl {
    /// Opens a socket for the requests; a socket of any family will do.
    pub(super) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// `SIOCGIFMTU`: the MTU in octets.
    pub(super) fn mtu(&self, name: InterfaceName) -> io::Result<usize> {
        self.number(libc::SIOCGIFMTU as libc::Ioctl, name, 0)
    }

    /// `SIOCSIFMTU`.
    pub(super) fn set_mtu(&self, name: InterfaceName, mtu: usize) -> io::Result<()> {
        self.number(libc::SIOCSIFMTU as libc::Ioctl, name, mtu)
            .map(drop)
    }

    /// `SIOCGIFTXQLEN`: how many packets wait for a reader before the kernel drops.
    pub(super) fn transmit_queue_len(&self, name: InterfaceName) -> io::Result<usize> {
        self.number(libc::SIOCGIFTXQLEN as libc::Ioctl, name, 0)
    }

    /// `SIOCSIFTXQLEN`.
    pub(super) fn set_transmit_queue_len(
        &self,
        name: InterfaceName,
        packets: usize,
    ) -> io::Result<()> {
        self.number(libc::SIOCSIFTXQLEN as libc::Ioctl, name, packets)
            .map(drop)
    }

    /// `SIOCGIFINDEX`: the number by which sockets name the interface.
    pub(super) fn index(&self, name: InterfaceName) -> io::Result<c_int> {
        let index = self.number(libc::SIOCGIFINDEX as libc::Ioctl, name, 0)?;
        c_int::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    }

    /// `SIOCGIFHWADDR`: the interface's address if its medium is Ethernet, `None` if it is another.
    pub(super) fn hardware_address(&self, name: InterfaceName) -> io::Result<Option<MacAddress>> {
        let mut argument = name.request();
        // SAFETY: SIOCGIFHWADDR reads and writes one `ifreq`, and the pointer is to a whole one.
        check(unsafe {
            libc::ioctl(
                self.raw(),
                libc::SIOCGIFHWADDR as libc::Ioctl,
                &raw mut argument,
            )
        })?;
        // SAFETY: every octet of the union is initialised (zeroed, then written by the kernel), and any value is a
        // valid `sockaddr`, which is made of integers.
        let address = unsafe { argument.ifr_ifru.ifru_hwaddr };
        if address.sa_family != libc::ARPHRD_ETHER {
            return Ok(None);
        }
        let mut octets = [0; 6];
        for (to, &from) in octets.iter_mut().zip(&address.sa_data) {
            *to = from as u8;
        }
        Ok(Some(MacAddress(octets)))
    }

    /// A request whose argument and result is one `int` of the union: MTU, queue length and index all are.
    fn number(&self, request: libc::Ioctl, name: InterfaceName, value: usize) -> io::Result<usize> {
        let value =
            c_int::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let mut argument = name.request();
        argument.ifr_ifru.ifru_mtu = value;
        // SAFETY: the requests above that use this read and write one `ifreq`, and the pointer is to a whole one.
        check(unsafe { libc::ioctl(self.raw(), request, &raw mut argument) })?;
        // SAFETY: every octet of the union is initialised (zeroed, then written by us or the kernel), and any
        // value is a valid `int`.
        let result = unsafe { argument.ifr_ifru.ifru_mtu };
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Registers a non-blocking file with the current runtime. Others may look at the file; only the runtime owns it.
///
/// # Errors
/// What `epoll_ctl` says.
///
/// # Panics
/// As [`AsyncFd::register`]: outside a runtime, or in one without I/O.
pub(super) fn register(file: Arc<File>) -> io::Result<AsyncFd<Arc<File>>> {
    // SAFETY: a shared `File` owns its descriptor, which is open and the same at least until the `AsyncFd` drops its
    // share; safe code cannot take the file out of an `Arc` that has another owner, nor close its descriptor.
    unsafe { AsyncFd::register(file) }.map_err(io::Error::from)
}

/// Moves the calling thread into a new, empty network namespace (`unshare(CLONE_NEWNET)`).
///
/// Threads it starts from now on are in there too; other threads stay where they are. The namespace goes away
/// with the last thread, socket and TUN descriptor in it. For tests, which this keeps off the machine's network.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: unshare takes no pointer; CLONE_NEWNET changes nothing that memory safety depends on.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_checked_before_the_kernel_truncates_them() {
        for name in ["tw0", "a", "fifteen-octets0", "tw%d"] {
            assert_eq!(InterfaceName::new(name).expect(name).to_text(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a:b",
            "a\0b",
            "sixteen-octets00",
            "tab\t",
        ] {
            let error = InterfaceName::new(name).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn interface_settings_are_read_without_privileges() {
        let control = InterfaceControl::open().expect("a socket");
        let loopback = InterfaceName::new("lo").expect("a valid name");
        assert!(control.mtu(loopback).expect("lo has an MTU") >= 1280);
        let missing = InterfaceName::new("no-such-device").expect("a valid name");
        let error = control.mtu(missing).expect_err("no such device");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
