//! Socket options: the checks the kernel makes.

use std::io;
use std::time::Duration;

use crate::driver::Shared;
use crate::error::SocketError;
use crate::net::stack::invalid_option;

/// A TTL or hop limit: 1 to 255 (EINVAL), or what is -1 to the system for the stack's default.
pub(super) fn ttl(ttl: u32, shared: &Shared) -> io::Result<u8> {
    checked_ttl(ttl, shared.engine().config().host.ttl)
}

fn checked_ttl(ttl: u32, default: u8) -> io::Result<u8> {
    match u8::try_from(ttl) {
        Ok(ttl) if ttl > 0 => Ok(ttl),
        _ if ttl == DEFAULT => Ok(default),
        _ => Err(invalid_option()),
    }
}

/// What -1 becomes on its way through an unsigned argument.
const DEFAULT: u32 = u32::MAX;

/// `IP_TOS`: the low octet of what is given, as Linux takes it.
pub(super) const fn tos(tos: u32) -> u8 {
    (tos & 0xff) as u8
}

/// `IPV6_TCLASS`: one octet (EINVAL), or what is -1 to the system for the default.
pub(super) fn traffic_class(class: u32) -> io::Result<u8> {
    if class == DEFAULT {
        return Ok(0);
    }
    u8::try_from(class).map_err(|_| invalid_option())
}

/// TCP owns the ECN bits of TOS and traffic class (RFC 3168 6.1): what the caller says of them is ignored, as by Linux.
pub(super) const fn without_ecn(octet: u8) -> u8 {
    octet & !0b11
}

/// `SO_LINGER` counts seconds.
pub(super) const fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// Reading an IPv6 option of an IPv4 socket (EOPNOTSUPP).
pub(super) fn no_v6_option() -> io::Error {
    SocketError::NotSupported.into()
}

/// Setting an IPv6 option on an IPv4 socket (ENOPROTOOPT): Linux has another errno for it.
pub(super) fn no_v6_option_to_set() -> io::Error {
    SocketError::ProtocolUnreachable.into()
}

/// An interface's name as `SO_BINDTODEVICE` takes it: up to the first NUL, at most 15 octets (EINVAL).
pub(super) fn device_name(name: &[u8]) -> io::Result<Option<String>> {
    let end = name
        .iter()
        .position(|octet| *octet == 0)
        .unwrap_or(name.len());
    if end > MAX_DEVICE_NAME {
        return Err(invalid_option());
    }
    let name =
        std::str::from_utf8(&name[..end]).map_err(|_| io::Error::from(SocketError::NoDevice))?;
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

/// Linux's `IFNAMSIZ` without its NUL.
const MAX_DEVICE_NAME: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_the_kernels() {
        let einval = |result: io::Result<u8>| result.map_err(|error| error.raw_os_error());
        let code = SocketError::InvalidInput.errno();
        for (value, expected) in [
            (0, Err(code)),
            (1, Ok(1)),
            (255, Ok(255)),
            (256, Err(code)),
            (u32::MAX, Ok(64)),
        ] {
            assert_eq!(einval(checked_ttl(value, 64)), expected, "{value}");
        }
        assert_eq!(tos(0x1ff), 0xff);
        assert_eq!(einval(traffic_class(256)), Err(code));
        assert_eq!(einval(traffic_class(u32::MAX)), Ok(0));
        assert_eq!(without_ecn(0b1011), 0b1000);
    }

    #[test]
    fn linger_counts_seconds() {
        assert_eq!(
            whole_seconds(Duration::from_millis(1999)),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn device_names_end_at_the_first_nul() {
        assert_eq!(device_name(b"eth0\0junk").unwrap().as_deref(), Some("eth0"));
        assert_eq!(device_name(b"").unwrap(), None);
        assert!(device_name(b"sixteen-octets-x").is_err());
        assert!(device_name(b"\xff").is_err());
    }
}
