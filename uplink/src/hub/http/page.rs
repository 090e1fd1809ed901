//! The page for people: the files in `page/`, part of the program.
//!
//! They tell nothing of this hub, so nobody need say who he is. What they show they ask for by the paths that are described, as any reader does.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sedge_core::crc::crc32c;

use super::packing::Packing;
use super::{Refusal, Route, packed};

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// The paths of the page. They are not for programs, so `openapi.json` has none of them.
pub(super) fn routes() -> impl Iterator<Item = Route> {
    let route = |asset: &'static Asset| get(move |headers| give(asset, headers));
    ASSETS.iter().map(move |asset| (asset.path, route(asset)))
}

async fn give(asset: &'static Asset, headers: HeaderMap) -> Result<Response, Refusal> {
    let text = asset.text.as_bytes();
    // Weak: packed or not, it is one file.
    let tag = format!("W/\"{:08x}\"", crc32c(text));
    let is_known = has(&headers, &tag);
    let head = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (VARY, "accept-encoding"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let head = (head, [(ETAG, tag)]);
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, head.0, head.1).into_response());
    }
    let (body, is_packed) = Packing::of(&headers)?.pack(text.to_vec()).await?;
    let kind = [(CONTENT_TYPE, asset.kind)];
    Ok(packed(is_packed, (head.0, head.1, kind, body)))
}

/// Whether a browser has what `tag` stands for.
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let written = headers.get_all(IF_NONE_MATCH).iter();
    let mut lists = written.filter_map(|list| list.to_str().ok());
    lists.any(|list| list.split(',').any(|had| had.trim() == tag))
}

const fn asset(path: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { path, kind, text }
}

const ASSETS: [Asset; 11] = [
    asset("/", HTML, include_str!("page/index.html")),
    asset("/page/api.js", SCRIPT, include_str!("page/api.js")),
    asset(
        "/page/gateways.js",
        SCRIPT,
        include_str!("page/gateways.js"),
    ),
    asset("/page/groups.js", SCRIPT, include_str!("page/groups.js")),
    asset("/page/page.css", STYLE, include_str!("page/page.css")),
    asset("/page/page.js", SCRIPT, include_str!("page/page.js")),
    asset("/page/plot.js", SCRIPT, include_str!("page/plot.js")),
    asset("/page/streams.js", SCRIPT, include_str!("page/streams.js")),
    asset("/page/table.js", SCRIPT, include_str!("page/table.js")),
    asset("/page/tail.js", SCRIPT, include_str!("page/tail.js")),
    asset("/page/words.js", SCRIPT, include_str!("page/words.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
/// Nothing from elsewhere is loaded or asked, nothing that stands in a record can run, and no page of another site has this one within it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::http::HeaderValue;

    use super::*;

    fn paths() -> BTreeSet<&'static str> {
        routes().map(|(path, _)| path).collect()
    }

    #[test]
    fn every_file_of_the_page_is_served_under_its_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hub/http/page");
        let files = std::fs::read_dir(folder).expect("the page is there");
        let names = files.map(|file| file.expect("a file").file_name());
        let names = names.map(|name| name.into_string().expect("of ASCII"));
        let expected: BTreeSet<String> = names
            .map(|name| match name.as_str() {
                "index.html" => "/".to_owned(),
                name => format!("/page/{name}"),
            })
            .collect();
        assert!(paths().into_iter().eq(&expected));
    }

    /// What a file names is there, and nothing is fetched from anywhere else.
    #[test]
    fn the_page_needs_nothing_but_itself() {
        let after = |text: &'static str, word: &'static str| {
            let found = text.split(word).skip(1);
            found.map(|rest| rest.split(['"', '\'', ')', ';']).next().unwrap_or(rest))
        };
        for asset in &ASSETS {
            let of_script = after(asset.text, " from './").map(|name| format!("/page/{name}"));
            let links = ["src=\"", "href=\"", "url("].map(|word| after(asset.text, word));
            let links = links.into_iter().flatten();
            let links = links.filter(|link| !link.starts_with("data:") && !link.starts_with('#'));
            for path in links.map(|link| format!("/{link}")).chain(of_script) {
                let is_there = paths().contains(path.as_str()) || path == "/v1/status";
                assert!(is_there, "{}: {path}", asset.path);
            }
            // SVG is named by an address that is never fetched.
            let foreign = after(asset.text, "://").find(|rest| !rest.starts_with("www.w3.org/"));
            assert_eq!(foreign, None, "{}", asset.path);
        }
    }

    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < 60 * 1024, "{bytes} bytes");
    }

    #[tokio::test]
    async fn a_browser_that_has_a_file_is_not_given_it_again() {
        let first = give(&ASSETS[0], HeaderMap::new()).await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].clone();
        for (had, status) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (HeaderValue::from_static("W/\"0\""), StatusCode::OK),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, had)]);
            let again = give(&ASSETS[0], headers).await.unwrap();
            assert_eq!(again.status(), status);
            assert_eq!(again.headers()[ETAG], tag);
            assert_eq!(again.headers()[CONTENT_SECURITY_POLICY], POLICY);
        }
    }
}
