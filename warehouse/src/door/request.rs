//! One HTTP request read as a ClickHouse call: credentials, statement, parameters, settings, and how to answer. Pure.

use axum::http::{HeaderMap, Method, header};

use super::{
    coding::Coding,
    error::{Kind, ServerError},
    users::Credentials,
};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub credentials: Credentials,
    /// The `query` parameter; the body follows it.
    pub query: Option<String>,
    pub database: Option<String>,
    pub default_format: Option<String>,
    pub query_id: Option<String>,
    pub session: Option<SessionRef>,
    /// Values of `{name:Type}` in the statement, escaped as in TSV.
    pub params: Vec<(String, String)>,
    /// Every parameter the door does not know is a setting of the engine.
    pub settings: Vec<(String, String)>,
    pub input: Coding,
    pub output: Coding,
    /// Answer only when the whole result is there.
    pub wait_end: bool,
    /// `GET` and `HEAD` never change anything.
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRef {
    pub id: String,
    pub timeout_seconds: u64,
    /// The session must exist already.
    pub must_exist: bool,
}

const SESSION_SECONDS: u64 = 60;
const SESSION_SECONDS_MAX: u64 = 3_600;

impl Call {
    /// `pairs`: the decoded query string, then the fields of a form body.
    pub fn read(
        method: &Method,
        headers: &HeaderMap,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ServerError> {
        let mut call = Self {
            read_only: matches!(*method, Method::GET | Method::HEAD),
            ..Self::default()
        };
        let mut by_url = Credentials::default();
        let (mut compress, mut decompress, mut http_compression) = (false, false, false);
        let (mut session_id, mut timeout, mut must_exist) = (None, SESSION_SECONDS, false);
        for (name, value) in pairs {
            match name.as_str() {
                "query" => match &mut call.query {
                    Some(query) => query.push_str(&value),
                    None => call.query = Some(value),
                },
                "user" => by_url.user = Some(value),
                "password" => by_url.password = Some(value),
                "database" => call.database = Some(value),
                "default_format" => call.default_format = Some(value),
                "query_id" => call.query_id = Some(value),
                "session_id" => session_id = Some(value),
                "session_timeout" => timeout = number(&name, &value)?.min(SESSION_SECONDS_MAX),
                "session_check" => must_exist = flag(&name, &value)?,
                "compress" => compress = flag(&name, &value)?,
                "decompress" => decompress = flag(&name, &value)?,
                "enable_http_compression" => http_compression = flag(&name, &value)?,
                "wait_end_of_query" | "http_wait_end_of_query" => {
                    call.wait_end = flag(&name, &value)?
                }
                "role" => {
                    return Err(ServerError::new(
                        Kind::UnknownRole,
                        format!(
                            "Role {value} is not known: the door grants rights by user, not by role"
                        ),
                    ));
                }
                // Transport matters of a real server that change nothing here.
                "buffer_size"
                | "send_progress_in_http_headers"
                | "http_headers_progress_interval_ms"
                | "client_protocol_version"
                | "stacktrace"
                | "quota_key"
                | "close_session"
                | "add_http_cors_header"
                | "http_zlib_compression_level"
                | "http_native_compression_disable_checksumming_on_decompress"
                | "wait_for_async_insert"
                | "async_insert" => {}
                _ => match name.strip_prefix("param_") {
                    Some(param) => call.params.push((param.to_owned(), value)),
                    None if is_setting_name(&name) => call.settings.push((name, value)),
                    None => {
                        return Err(ServerError::new(
                            Kind::BadArguments,
                            format!("parameter {name:?} is not a setting's name"),
                        ));
                    }
                },
            }
        }
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        call.credentials = credentials(&text, by_url)?;
        call.database = call.database.or_else(|| text("x-clickhouse-database"));
        call.default_format = call.default_format.or_else(|| text("x-clickhouse-format"));
        call.session = session_id.map(|id| SessionRef {
            id,
            timeout_seconds: timeout,
            must_exist,
        });
        call.input = input_coding(&text, decompress)?;
        call.output = if compress {
            Coding::NativeFrames
        } else if http_compression {
            Coding::of_accepted(&text(header::ACCEPT_ENCODING.as_str()).unwrap_or_default())
        } else {
            Coding::Plain
        };
        Ok(call)
    }
}

fn credentials(
    text: &impl Fn(&str) -> Option<String>,
    by_url: Credentials,
) -> Result<Credentials, ServerError> {
    let by_header = Credentials {
        user: text("x-clickhouse-user"),
        password: text("x-clickhouse-key"),
    };
    if by_header != Credentials::default() {
        return Ok(by_header);
    }
    if let Some(value) = text(header::AUTHORIZATION.as_str()) {
        return Credentials::of_authorization(&value).ok_or_else(|| {
            ServerError::new(
                Kind::AuthenticationFailed,
                "Authentication failed: the Authorization header is neither Basic nor Bearer",
            )
        });
    }
    Ok(by_url)
}

fn input_coding(
    text: &impl Fn(&str) -> Option<String>,
    decompress: bool,
) -> Result<Coding, ServerError> {
    let named = text(header::CONTENT_ENCODING.as_str()).unwrap_or_default();
    let coding = Coding::of_request(&named).ok_or_else(|| {
        ServerError::new(
            Kind::NotImplemented,
            format!(
                "Content-Encoding {named:?} is not offered; send gzip, deflate, zstd, lz4 or none"
            ),
        )
    })?;
    match (coding, decompress) {
        (Coding::Plain, true) => Ok(Coding::NativeFrames),
        (_, true) => Err(ServerError::new(
            Kind::BadArguments,
            "the body is compressed twice: drop decompress=1 or Content-Encoding",
        )),
        (coding, false) => Ok(coding),
    }
}

fn flag(name: &str, value: &str) -> Result<bool, ServerError> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" | "" => Ok(false),
        _ => Err(ServerError::new(
            Kind::BadArguments,
            format!("{name}={value:?}: write 0 or 1"),
        )),
    }
}

fn number(name: &str, value: &str) -> Result<u64, ServerError> {
    value.parse().map_err(|_| {
        ServerError::new(
            Kind::BadArguments,
            format!("{name}={value:?} is not a whole number"),
        )
    })
}

fn is_setting_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
}

/// Decodes `a=b&c=d`.
pub fn query_pairs(encoded: &str) -> Vec<(String, String)> {
    encoded
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(name), percent_decoded(value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|byte| (*byte as char).to_digit(16))
        };
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The fields of a `multipart/form-data` body: name and text. `None`: the body is not one.
pub fn form_fields(content_type: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let boundary = content_type
        .split(';')
        .find_map(|part| part.trim().strip_prefix("boundary="))
        .map(|boundary| boundary.trim_matches('"'))
        .filter(|boundary| !boundary.is_empty())?;
    let mark = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut rest = &body[find(body, mark.as_bytes())? + mark.len()..];
    loop {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let next = find(rest, format!("\r\n{mark}").as_bytes())?;
        let part = &rest[..next];
        let head_end = find(part, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&part[..head_end]);
        let name = head
            .lines()
            .find(|line| {
                line.to_ascii_lowercase()
                    .starts_with("content-disposition:")
            })
            .and_then(|line| {
                line.split(';')
                    .find_map(|item| item.trim().strip_prefix("name="))
            })
            .map(|name| name.trim_matches('"').to_owned())?;
        fields.push((
            name,
            String::from_utf8_lossy(&part[head_end + 4..]).into_owned(),
        ));
        rest = &rest[next + 2 + mark.len()..];
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(url: &str, headers: &[(&'static str, &str)]) -> Result<Call, ServerError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        Call::read(&Method::POST, &map, query_pairs(url))
    }

    #[test]
    fn reads_what_clients_send() {
        let call = read(
            "query=SELECT+%7Bx%3AUInt8%7D&param_x=5&database=d&max_threads=2&compress=1&decompress=1&session_id=s&wait_end_of_query=1",
            &[("x-clickhouse-user", "u"), ("x-clickhouse-key", "k")],
        )
        .unwrap();
        assert_eq!(call.query.as_deref(), Some("SELECT {x:UInt8}"));
        assert_eq!(call.params, [("x".into(), "5".into())]);
        assert_eq!(call.settings, [("max_threads".into(), "2".into())]);
        assert_eq!(
            (call.input, call.output),
            (Coding::NativeFrames, Coding::NativeFrames)
        );
        assert_eq!(call.credentials.user.as_deref(), Some("u"));
        assert!(call.session.is_some() && call.wait_end && !call.read_only);
    }

    #[test]
    fn http_compression_needs_the_clients_word() {
        let accept = [("accept-encoding", "lz4, zstd")];
        assert_eq!(read("", &accept).unwrap().output, Coding::Plain);
        assert_eq!(
            read("enable_http_compression=1", &accept).unwrap().output,
            Coding::Lz4
        );
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        assert_eq!(read("role=x", &[]).unwrap_err().code, 512);
        assert_eq!(read("a'b=1", &[]).unwrap_err().code, 36);
        assert_eq!(
            read("", &[("content-encoding", "snappy")])
                .unwrap_err()
                .code,
            48
        );
        assert_eq!(
            read("", &[("authorization", "Negotiate x")])
                .unwrap_err()
                .code,
            516
        );
    }

    #[test]
    fn reads_forms() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n--XX\r\ncontent-disposition: form-data; name=\"param_a\"\r\n\r\nb\r\n--XX--\r\n";
        let fields = form_fields("multipart/form-data; boundary=XX", body).unwrap();
        assert_eq!(
            fields,
            [
                ("query".into(), "SELECT\r\n1".into()),
                ("param_a".into(), "b".into())
            ]
        );
        assert!(form_fields("multipart/form-data", body).is_none());
        assert!(form_fields("multipart/form-data; boundary=YY", body).is_none());
    }
}
