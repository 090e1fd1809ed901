//! Reading over HTTP: the same items as `sedge pull`, as lines of JSON or as server-sent events.
//!
//! Each request stands for itself: it says where it begins and is told where to go on, so that nothing is kept for a reader between two of them.
//! What may be asked and what is answered: docs/guide/http.md.

mod body;
mod consumers;
mod cursor;
mod gate;
mod packing;
mod page;
mod query;
mod records;
mod site;
mod status;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, VARY, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get};
use serde_json::{Value, json};

use super::HubHandle;
use super::guard::{self, Grant};
use super::partition::Partition;
use super::reading::{NotRead, Reading};
use crate::trust::token::Token;
use crate::wire;
pub use gate::{Gate, Newcomer, Origin, Stay};
use packing::Packing;
use query::Query;
pub(super) use site::Site;

impl HubHandle {
    /// The paths from which streams are read, and a page for people. Where the network can reach them they are served behind a [`Gate`]; who reads shows a token if the hub knows its consumers.
    pub fn http(&self) -> Router {
        let routes = of_streams().into_iter().chain(of_hubs());
        let site = Arc::new(Site::of_hub(&self.shared));
        router(routes.chain(page::routes()), site)
    }
}

/// The paths from which a gateway's own streams are read.
pub(super) fn of_gateway(site: Arc<Site>) -> Router {
    router(of_streams().into_iter(), site)
}

fn router(routes: impl Iterator<Item = Route>, site: Arc<Site>) -> Router {
    let all = routes.fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods)
    });
    all.with_state(site)
}

type Route = (&'static str, MethodRouter<Arc<Site>>);

/// The paths for programs that ask for streams. Each stands in `openapi.json` too, with its methods.
fn of_streams() -> [Route; 7] {
    [
        ("/v1/openapi.json", get(description)),
        ("/v1/streams", get(streams)),
        ("/v1/streams/{stream}", get(stream)),
        ("/v1/streams/{stream}/counts", get(status::counts)),
        ("/v1/streams/{stream}/records", get(records::merged)),
        (
            "/v1/streams/{stream}/{number}/records",
            get(records::of_partition),
        ),
        ("/v1/streams/{stream}/{number}/offset", get(offset)),
    ]
}

/// Those that only a hub has.
fn of_hubs() -> [Route; 5] {
    let offsets = get(consumers::offsets)
        .put(consumers::put)
        .delete(consumers::forget_all);
    let forget_partition = delete(consumers::forget_partition);
    [
        ("/v1/status", get(status::status)),
        ("/v1/consumers", get(consumers::list)),
        ("/v1/consumers/{consumer}/offsets", offsets),
        (
            "/v1/consumers/{consumer}/offsets/{stream}",
            delete(consumers::forget_stream),
        ),
        (
            "/v1/consumers/{consumer}/offsets/{stream}/{number}",
            forget_partition,
        ),
    ]
}

/// A reader at the door: who it is, what it may read, and its seat.
struct Visitor {
    site: Arc<Site>,
    grant: Grant,
    reading: Reading,
    packing: Packing,
    seat: Seat,
}

/// Its place among those who are served, while it is.
struct Seat {
    site: Arc<Site>,
    /// Where a consumer's places are counted.
    _consumer: Option<guard::Seat>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.site.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request is not met.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    what: String,
}

/// What stands in the path.
struct At<T>(T);

impl<S: Sync, T> FromRequestParts<S> for At<T>
where
    Path<T>: FromRequestParts<S, Rejection = PathRejection>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(found) = Path::from_request_parts(parts, state)
            .await
            .map_err(|why| Refusal::new(why.status(), why.body_text()))?;
        Ok(Self(found))
    }
}

impl FromRequestParts<Arc<Site>> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        Self::admit(site, parts.extensions.get(), &parts.headers)
    }
}

impl Visitor {
    fn admit(
        site: &Arc<Site>,
        origin: Option<&Origin>,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let (grant, consumer) = site.admit(origin, headers)?;
        let seat = Seat {
            site: Arc::clone(site),
            _consumer: consumer,
        };
        if site.visitors.fetch_add(1, Ordering::Relaxed) >= site.visitors_max {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{} requests are open already", site.visitors_max),
            ));
        }
        Ok(Self {
            packing: Packing::of(headers)?,
            reading: Reading::of(&site.library, &site.counters, grant.streams()),
            site: Arc::clone(site),
            grant,
            seat,
        })
    }

    /// Answers with `value`.
    async fn page(&self, value: &Value) -> Result<Response, Refusal> {
        let text = format!("{value}\n").into_bytes();
        let (body, is_packed) = self.packing.pack(text).await?;
        let head = [(CONTENT_TYPE, JSON), (VARY, "accept-encoding")];
        Ok(packed(is_packed, (head, body)))
    }

    /// The partitions of `stream`, which is there.
    fn partitions_of(&self, stream: &str) -> Result<Vec<wire::Partition>, Refusal> {
        self.reading.may_read(stream)?;
        let partitions = self.reading.partitions(Some(stream));
        match partitions.is_empty() {
            true => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                self.site.has_no(stream),
            )),
            false => Ok(partitions.iter().map(|p| p.describe()).collect()),
        }
    }

    fn partition_of(&self, stream: &str, number: &str) -> Result<wire::Partition, Refusal> {
        let partitions = self.partitions_of(stream)?;
        let number = number.parse::<u32>().ok();
        let found = partitions.into_iter().find(|p| Some(p.number) == number);
        found.ok_or_else(|| {
            let what = format!("no such partition; GET /v1/streams/{stream} lists them");
            Refusal::new(StatusCode::NOT_FOUND, what)
        })
    }
}

/// A page of another site may make a browser on this machine ask, under a name that leads here: it is not to hear what is served without a token.
fn is_of_this_machine(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let name = host.map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    });
    let is_here = |name: &str| {
        name == "localhost"
            || name
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok()
    };
    match name.is_none_or(is_here) {
        true => Ok(()),
        false => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "this port serves its own machine only; ask for 127.0.0.1 or localhost",
        )),
    }
}

fn token_in(headers: &HeaderMap) -> Result<Option<Token>, Refusal> {
    let Some(written) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let token = written
        .to_str()
        .ok()
        .and_then(|written| written.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, token)| Token::parse(token).ok());
    token.map(Some).ok_or_else(|| {
        let what = "accepted: Authorization: Bearer TOKEN, with a token of `sedge hub tokens add`";
        Refusal::new(StatusCode::UNAUTHORIZED, what)
    })
}

/// What can be asked, for programs. It tells nothing of this hub, so nobody need say who he is.
async fn description(State(site): State<Arc<Site>>) -> Response {
    let head = [(CONTENT_TYPE, JSON)];
    match site.hub() {
        Ok(_) => (head, DESCRIPTION).into_response(),
        Err(_) => (head, described_of_gateway().to_string()).into_response(),
    }
}

/// The description of the paths that a gateway has.
fn described_of_gateway() -> Value {
    let mut described: Value = serde_json::from_str(DESCRIPTION).expect("it is JSON");
    let there: Vec<&str> = of_streams().iter().map(|(path, _)| *path).collect();
    if let Some(paths) = described["paths"].as_object_mut() {
        paths.retain(|path, _| there.contains(&path.as_str()));
    }
    described
}

async fn streams(visitor: Visitor) -> Result<Response, Refusal> {
    let all = visitor.reading.partitions(None);
    let stream = |of: &[Arc<Partition>]| {
        let partitions: Vec<Value> = of.iter().map(|p| shown(&p.describe())).collect();
        json!({ "stream": of[0].stream.as_str(), "partitions": partitions })
    };
    let streams: Vec<Value> = all
        .chunk_by(|one, next| one.stream == next.stream)
        .map(stream)
        .collect();
    visitor.page(&json!({ "streams": streams })).await
}

async fn stream(visitor: Visitor, At(stream): At<String>) -> Result<Response, Refusal> {
    let partitions = visitor.partitions_of(&stream)?;
    let partitions: Vec<Value> = partitions.iter().map(shown).collect();
    let shown = json!({ "stream": stream, "partitions": partitions });
    visitor.page(&shown).await
}

/// Where a time begins in a partition.
async fn offset(
    visitor: Visitor,
    At((stream, number)): At<(String, String)>,
    uri: axum::http::Uri,
) -> Result<Response, Refusal> {
    let partition = visitor.partition_of(&stream, &number)?;
    let time = Query::parse(&uri, &["time"])?.time("time")?;
    let numbers = [partition.number];
    let places = visitor
        .reading
        .offsets_for_time(&stream, &numbers, time)
        .await?;
    let places: Vec<Value> = places
        .iter()
        .map(|place| json!({ "first": place.first, "offset": place.next }))
        .collect();
    visitor.page(&json!({ "runs": places })).await
}

/// A response whose body is packed, or is not.
fn packed(is_packed: bool, parts: impl IntoResponse) -> Response {
    let mut response = parts.into_response();
    if is_packed {
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    response
}

/// A partition as it is listed.
fn shown(partition: &wire::Partition) -> Value {
    let run = |run: &wire::Run| json!({ "first": run.first, "end": run.end, "epoch": run.epoch });
    json!({
        "number": partition.number,
        "gateway": partition.gateway,
        "partition": partition.partition,
        "epoch": partition.epoch,
        "earliest": partition.earliest,
        "end": partition.end,
        "ahead": partition.ahead.iter().map(run).collect::<Vec<_>>(),
    })
}

impl Refusal {
    fn new(status: StatusCode, what: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
        }
    }

    /// Whether there is more, and will be given as soon as the disk gives it.
    fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    fn bad(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what)
    }
}

impl From<NotRead> for Refusal {
    fn from(why: NotRead) -> Self {
        let status = match why {
            NotRead::NotAllowed => StatusCode::FORBIDDEN,
            NotRead::Unknown { .. } => StatusCode::NOT_FOUND,
            NotRead::Unread => StatusCode::SERVICE_UNAVAILABLE,
            NotRead::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, why.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{}\n", json!({ "error": self.what }));
        let mut response = (self.status, [(CONTENT_TYPE, JSON)], text).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// In OpenAPI 3.1.
const DESCRIPTION: &str = include_str!("http/openapi.json");
const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_what_there_is() {
        let described: Value = serde_json::from_str(DESCRIPTION).expect("it is JSON");
        let paths = described["paths"].as_object().expect("it has paths");
        let described: Vec<&str> = paths.keys().map(String::as_str).collect();
        let all = of_streams().into_iter().chain(of_hubs());
        let mut there: Vec<&str> = all.map(|(path, _)| path).collect();
        there.sort_unstable();
        assert_eq!(described, there);
        // What is for people is apart: no program's path is hidden among it.
        assert!(page::routes().all(|(path, _)| !path.starts_with("/v1/")));
    }
}
