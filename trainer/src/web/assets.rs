//! Style sheet, script and icon, which the binary carries.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};

type Asset = ([(HeaderName, &'static str); 2], &'static str);

const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

pub(super) async fn css() -> Asset {
    asset("text/css; charset=utf-8", CSS)
}

pub(super) async fn js() -> Asset {
    asset("text/javascript; charset=utf-8", JS)
}

pub(super) async fn icon() -> Asset {
    asset("image/svg+xml", ICON)
}

/// To be asked for anew each time: a new trainer may bring new ones.
fn asset(kind: &'static str, text: &'static str) -> Asset {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}
