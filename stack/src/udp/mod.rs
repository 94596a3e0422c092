//! UDP (RFC 768), sans-IO.
