//! The description of the API (OpenAPI 3.1), made from the table of routes and from the types themselves.
//!
//! In: the rows of the table. Out: one document. Never: a route that is not in the table, a right that is not the guard's.

use std::sync::LazyLock;

use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
};
use utoipa::{IntoParams, ToSchema};

use super::problem::{self, Problem};
use super::routes::{Right, Route, table};

/// What is said of a route beside its path and its right.
#[derive(Clone, Default)]
pub(super) struct Says {
    summary: &'static str,
    parameters: Vec<Parameter>,
    body: Option<Body>,
    replies: Vec<Reply>,
    schemas: Vec<Named>,
}

type Named = (String, RefOr<Schema>);

#[derive(Clone)]
struct Body {
    schema: Ref,
    required: bool,
}

#[derive(Clone)]
struct Reply {
    status: u16,
    media_type: &'static str,
    schema: RefOr<Schema>,
}

impl Says {
    pub(super) fn summary(&mut self, summary: &'static str) {
        self.summary = summary;
    }

    pub(super) fn parameters<T: IntoParams>(&mut self) {
        self.parameters.extend(T::into_params(|| Some(ParameterIn::Query)).into_iter().map(without_null));
    }

    /// A page of these.
    pub(super) fn reply_page<T: ToSchema>(&mut self) {
        let item = self.schema::<T>();
        let next = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
        let next = next.description(Some("What to give as `after` for the next page; null: this is the last."));
        let page = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("items", ArrayBuilder::new().items(item))
            .required("items")
            .property("next", next)
            .required("next");
        let name = format!("PageOf{}", T::name());
        self.schemas.push((name.clone(), page.build().into()));
        self.replies.push(Reply {
            status: 200,
            media_type: "application/json",
            schema: Ref::from_schema_name(name).into(),
        });
    }

    /// A header that may be sent.
    pub(super) fn header(&mut self, name: &str, what: &str, pattern: &str) {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build();
        self.parameters.push(parameter.description(Some(what)).schema(Some(schema)).build());
    }

    pub(super) fn body<T: ToSchema>(&mut self, required: bool) {
        let schema = self.schema::<T>();
        self.body = Some(Body { schema, required });
    }

    pub(super) fn reply<T: ToSchema>(&mut self, status: u16) {
        let schema = self.schema::<T>().into();
        self.replies.push(Reply { status, media_type: "application/json", schema });
    }

    pub(super) fn reply_text(&mut self, media_type: &'static str) {
        self.replies.push(Reply { status: 200, media_type, schema: text() });
    }

    pub(super) fn reply_nothing(&mut self) {
        self.replies.push(Reply { status: 204, media_type: "", schema: text() });
    }

    fn schema<T: ToSchema>(&mut self) -> Ref {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name())
    }
}

/// A parameter that may be left out is none that may be null: there is no null behind a `?`.
fn without_null(parameter: Parameter) -> Parameter {
    let mut value = serde_json::to_value(&parameter).expect("a parameter has string keys");
    let schema = &mut value["schema"];
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
    } else if let Some(some) = schema["oneOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null")) {
        *schema = some.clone();
    }
    serde_json::from_value(value).unwrap_or(parameter)
}

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

/// `GET /v1/openapi.json`
pub async fn read() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(document);
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], TEXT.as_str()).into_response()
}

/// The document as text.
pub fn document() -> String {
    let mut text = describe(table()).to_pretty_json().expect("a description has string keys");
    text.push('\n');
    text
}

fn describe(rows: Vec<Route>) -> OpenApi {
    let info = InfoBuilder::new()
        .title("Iguazu management API")
        .version("v1")
        .description(Some("Topics, users, access and quotas of Kafka on request. Every change is a request: it is checked, planned and decided on before anything is done."))
        .build();
    let (mut paths, mut components) = (PathsBuilder::new(), ComponentsBuilder::new());
    let mut problems = Says::default();
    problems.body::<Problem>(true);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("token of the API, or JWT").build();
    components = components.security_scheme("bearer", SecurityScheme::Http(bearer));
    for schema in problems.schemas {
        components = components.schema(schema.0, schema.1);
    }
    for row in rows {
        for (name, schema) in &row.says.schemas {
            components = components.schema(name.clone(), schema.clone());
        }
        paths = paths.path(&row.path, PathItem::new(method(&row.method), operation(&row)));
    }
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components.build())).build()
}

fn operation(row: &Route) -> OperationBuilder {
    let names = row.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = names.map(|name| {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[^/\\x00-\\x1f\\x7f-\\x9f]+$"));
        parameter.schema(Some(name.min_length(Some(1)).max_length(Some(150)).build())).build()
    });
    let problem = ResponseBuilder::new()
        .description("What is wrong, all of it.")
        .content(problem::MEDIA_TYPE, ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build());
    let mut operation = OperationBuilder::new()
        .operation_id(Some(operation_id(row)))
        .summary(Some(row.says.summary))
        .description(Some(row.right.to_string()))
        .parameters(Some(in_path.chain(row.says.parameters.iter().cloned())))
        .response("default", problem);
    for reply in &row.says.replies {
        let mut response = ResponseBuilder::new().description(row.says.summary);
        if !reply.media_type.is_empty() {
            let content = ContentBuilder::new().schema(Some(reply.schema.clone())).build();
            response = response.content(reply.media_type, content);
        }
        operation = operation.response(reply.status.to_string(), response);
    }
    if let Some(body) = &row.says.body {
        let required = if body.required { Required::True } else { Required::False };
        let content = ContentBuilder::new().schema(Some(body.schema.clone())).build();
        let body = RequestBodyBuilder::new().required(Some(required)).content("application/json", content).build();
        operation = operation.request_body(Some(body));
    }
    if row.right != Right::Anyone {
        operation = operation.security(SecurityRequirement::new("bearer", Vec::<String>::new()));
    }
    operation
}

/// `put_topics_cluster_name` and so on: stable, since clients are made from it.
fn operation_id(row: &Route) -> String {
    let path = row.path.trim_start_matches('/').trim_start_matches("v1/");
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<_> =
        std::iter::once(row.method.as_str().to_ascii_lowercase()).chain(words.map(str::to_owned)).collect();
    words.join("_")
}

fn method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_description_in_the_repository_is_that_of_the_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (described, kept) = (document(), root.join("deploy/docs/openapi.json"));
        if std::fs::read_to_string(&kept).unwrap_or_default() != described {
            let made = root.join("target/docs/openapi.json");
            std::fs::create_dir_all(made.parent().unwrap()).unwrap();
            std::fs::write(&made, &described).unwrap();
            panic!(
                "deploy/docs/openapi.json is not what the code says; run\n  cp target/docs/openapi.json deploy/docs/"
            );
        }
    }

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        for row in table() {
            let operation = &document["paths"][&row.path][row.method.as_str().to_ascii_lowercase()];
            let name = format!("{} {}", row.method, row.path);
            assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{name}: {operation}");
            assert!(operation["responses"].as_object().is_some_and(|replies| replies.len() > 1), "{name}: {operation}");
        }
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"][reference].is_object(), "{reference}");
        }
        assert_eq!(document["openapi"], "3.1.0");
    }
}
