//! The socket options, addresses, routes and fragments of IPv4 and IPv6.
