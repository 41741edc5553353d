//! What went wrong, whose fault it was, how much was sent; and the one table from fault to status.

/// A request that could not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client erred.
    Downstream(DownstreamFault),
    /// An endpoint erred, or none could be reached.
    Upstream { fault: UpstreamFault, sent: Sent },
}

/// How much of a request an endpoint can have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// No byte left: no endpoint can have acted on it.
    Nothing,
    /// Some bytes left.
    Some,
}

/// What a client did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownstreamFault {
    /// The head breaks a rule of RFC 9112 (400).
    MalformedHead,
    /// Length and coding of the content contradict each other or break a rule (400).
    BadFraming,
    /// No, several or an invalid Host (400).
    BadHost,
    /// A target that is not allowed here (400).
    BadTarget,
    /// Chunked content that breaks a rule (400).
    MalformedBody,
    /// A transfer coding that is not implemented (501).
    UnknownCoding,
    /// A version other than HTTP/1.x (505).
    UnsupportedVersion,
    /// TRACE or CONNECT (405).
    MethodNotAllowed,
    /// An `Expect` other than `100-continue` (417).
    ExpectationFailed,
    /// The head or the number of its fields is over the limit (431).
    HeadTooLarge,
    /// The target is over the limit (414).
    TargetTooLong,
    /// The content is over the limit of the route (413).
    BodyTooLarge,
    /// The head did not arrive in time (408).
    HeadTimeout,
    /// The content did not arrive in time (408).
    BodyTimeout,
    /// The client went away: nobody is left to answer.
    Gone,
}

/// What went wrong towards an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// The cluster has no endpoint to try (503), and the token that says why.
    NoEndpoint(&'static str),
    /// Refused, unreachable, or no answer to the connect in time (503).
    ConnectFailed,
    /// This host has no local port left for a connection to it (503).
    NoPort,
    /// This host has no descriptor or memory left for a socket (503).
    NoSocket,
    /// TLS towards the endpoint failed (502).
    TlsFailed,
    /// It closed or reset before a head (502).
    Closed,
    /// It answered with something that is not HTTP, or breaks a rule (502).
    MalformedResponse,
    /// It did not answer in time (504).
    Timeout,
    /// It broke in the middle of the content: the client must see the truncation.
    Truncated,
    /// A bound of ours was reached (503).
    Overloaded,
}

impl Fault {
    /// The status the client sees (RFC 9110 section 15); `None` where nothing may be sent any more.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Downstream(fault) => fault.status(),
            Self::Upstream { fault, .. } => match fault {
                UpstreamFault::NoEndpoint(_) | UpstreamFault::ConnectFailed | UpstreamFault::Overloaded => Some(503),
                UpstreamFault::NoPort | UpstreamFault::NoSocket => Some(503),
                UpstreamFault::TlsFailed | UpstreamFault::Closed | UpstreamFault::MalformedResponse => Some(502),
                UpstreamFault::Timeout => Some(504),
                UpstreamFault::Truncated => None,
            },
        }
    }

    /// One token for `corelane-reason`, the access log's flags and the metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Downstream(fault) => fault.reason(),
            Self::Upstream { fault, .. } => match fault {
                UpstreamFault::NoEndpoint(why) => why,
                UpstreamFault::ConnectFailed => "upstream_connect_failed",
                UpstreamFault::NoPort => "local_ports_exhausted",
                UpstreamFault::NoSocket => "local_sockets_exhausted",
                UpstreamFault::TlsFailed => "upstream_tls_failed",
                UpstreamFault::Closed => "upstream_closed",
                UpstreamFault::MalformedResponse => "upstream_malformed_response",
                UpstreamFault::Timeout => "upstream_timeout",
                UpstreamFault::Truncated => "upstream_truncated",
                UpstreamFault::Overloaded => "overloaded",
            },
        }
    }

    /// Whether another endpoint may be tried whatever the method: only where no endpoint can have acted on the request.
    pub fn may_retry(self) -> bool {
        matches!(self, Self::Upstream { sent: Sent::Nothing, .. })
    }
}

impl UpstreamFault {
    /// Whether it says something about the endpoint: what this host lacks does not.
    pub fn blames_endpoint(self) -> bool {
        !matches!(self, Self::NoEndpoint(_) | Self::NoPort | Self::NoSocket | Self::Overloaded)
    }
}

impl DownstreamFault {
    /// The status the client sees; `None` where nobody is left to see it.
    pub fn status(self) -> Option<u16> {
        Some(match self {
            Self::MalformedHead | Self::BadFraming | Self::BadHost | Self::BadTarget | Self::MalformedBody => 400,
            Self::MethodNotAllowed => 405,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::ExpectationFailed => 417,
            Self::HeadTooLarge => 431,
            Self::UnknownCoding => 501,
            Self::UnsupportedVersion => 505,
            Self::Gone => return None,
        })
    }

    /// One token for `corelane-reason`, the access log's flags and the metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed_request",
            Self::BadFraming => "bad_framing",
            Self::BadHost => "bad_host",
            Self::BadTarget => "bad_target",
            Self::MalformedBody => "malformed_body",
            Self::UnknownCoding => "unknown_transfer_coding",
            Self::UnsupportedVersion => "unsupported_version",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Gone => "client_closed",
        }
    }
}
