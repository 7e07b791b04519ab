//! The web page, compiled in. Its sources are in `console/`; there is no build step.

use axum::Router;
use axum::http::header;
use axum::routing::get;

const FILES: [(&str, &str, &str); 7] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../../console/index.html"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("../../console/style.css"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../../console/app.js"),
    ),
    (
        "/api.js",
        "text/javascript; charset=utf-8",
        include_str!("../../console/api.js"),
    ),
    (
        "/passkeys.js",
        "text/javascript; charset=utf-8",
        include_str!("../../console/passkeys.js"),
    ),
    (
        "/sol.js",
        "text/javascript; charset=utf-8",
        include_str!("../../console/sol.js"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("../../console/icon.svg"),
    ),
];

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, content_type, text)| {
            router.route(
                path,
                get(move || async move {
                    (
                        [
                            (header::CONTENT_TYPE, content_type),
                            (header::CACHE_CONTROL, "no-cache"),
                        ],
                        text,
                    )
                }),
            )
        })
}
