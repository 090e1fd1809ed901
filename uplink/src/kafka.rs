//! Kafka's wire format, as far as consumers need it: messages, and batches of records. No I/O.
//!
//! Source: <https://kafka.apache.org/protocol>, and the message definitions of Apache Kafka 4.1. Only versions without compact strings and tagged fields are
//! spoken (but for ApiVersions, which is asked before a client knows); every client of the last years speaks those. What a count or a length on the wire
//! says is believed only as far as the bytes that are there.

pub(crate) mod api;
pub(crate) mod batch;
pub(crate) mod groups;
pub(crate) mod octets;
pub(crate) mod streams;

/// Error codes of the protocol: <https://kafka.apache.org/protocol#protocol_error_codes>.
pub(crate) mod code {
    pub(crate) const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub(crate) const NONE: i16 = 0;
    pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(crate) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub(crate) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub(crate) const INVALID_GROUP_ID: i16 = 24;
    pub(crate) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub(crate) const GROUP_AUTHORIZATION_FAILED: i16 = 30;
    pub(crate) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    pub(crate) const ILLEGAL_SASL_STATE: i16 = 34;
    pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
    pub(crate) const INVALID_REQUEST: i16 = 42;
    pub(crate) const POLICY_VIOLATION: i16 = 44;
    pub(crate) const KAFKA_STORAGE_ERROR: i16 = 56;
    pub(crate) const SASL_AUTHENTICATION_FAILED: i16 = 58;
    pub(crate) const NON_EMPTY_GROUP: i16 = 68;
    pub(crate) const GROUP_ID_NOT_FOUND: i16 = 69;
    pub(crate) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub(crate) const FENCED_LEADER_EPOCH: i16 = 74;
}
