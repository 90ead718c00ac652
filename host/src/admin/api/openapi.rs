//! The description of the API in OpenAPI 3.1, from the table of routes and from the types that they return.

use hyper::{Method, StatusCode};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::needs::Needs;
use super::reply::{JSON, TEXT};
use super::route::{Kind, Parameter, Route};
use crate::admin::guard::COOKIES;

/// Returns the description of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut schemas);
    }
    let basic = json!({ "type": "http", "scheme": "basic" });
    let cookie = json!({ "type": "apiKey", "in": "cookie", "name": COOKIES[0] });
    let bearer = json!({ "type": "http", "scheme": "bearer" });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "remuxd",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "basic": basic, "bearer": bearer, "cookie": cookie },
        },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let schema =
        route.shape.schema.map_or_else(|| json!({ "type": "string" }), |schema| schema(schemas).to_value());
    let good = json!({ "description": "OK", "content": { media_type(route.shape.content_type): { "schema": schema } } });
    let mut responses = Map::from_iter([("200".to_owned(), good.clone())]);
    for status in statuses(route) {
        let content = if status == StatusCode::CONFLICT { JSON } else { TEXT };
        // A conflict has the report that 200 has.
        let schema = if content == JSON { schema.clone() } else { json!({ "type": "string" }) };
        responses.insert(
            status.as_str().to_owned(),
            json!({
                "description": status.canonical_reason().unwrap_or_default(),
                "content": { media_type(content): { "schema": schema } },
            }),
        );
    }
    let mut parameters: Vec<Value> = route.parameters.iter().map(query_parameter).collect();
    if route.path.ends_with("{id}") {
        let schema = json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" });
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": schema }));
    }
    let name = route.path.trim_start_matches('/').replace(['/', '.'], "_").replace(['{', '}'], "");
    let users = json!([{ "basic": [] }, { "bearer": [] }, { "cookie": [] }]);
    let security = match route.needs {
        Needs::Nothing => json!([]),
        Needs::Login => json!([{}, { "basic": [] }, { "bearer": [] }, { "cookie": [] }]),
        // Without users in the config, everybody who reaches it.
        Needs::Admission => json!([{}, { "basic": [] }, { "bearer": [] }, { "cookie": [] }]),
        Needs::User | Needs::Operator => users,
    };
    let mut operation = json!({
        "operationId": format!("{}_{name}", route.method.as_str().to_ascii_lowercase()),
        "summary": route.text,
        "security": security,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = route.body {
        let content = json!({ JSON: { "schema": body(schemas).to_value() } });
        operation["requestBody"] = json!({ "required": false, "content": content });
    }
    operation
}

/// Returns the statuses that a route may answer with, beside 200.
fn statuses(route: &Route) -> Vec<StatusCode> {
    let mut statuses = route.statuses.to_vec();
    if route.needs != Needs::Nothing {
        statuses.extend([
            StatusCode::UNAUTHORIZED,
            StatusCode::MISDIRECTED_REQUEST,
            StatusCode::TOO_MANY_REQUESTS,
        ]);
    }
    if route.body.is_some() {
        statuses.extend([StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE]);
    }
    if matches!(route.needs, Needs::User | Needs::Operator) || route.method != Method::GET {
        statuses.push(StatusCode::FORBIDDEN);
    }
    if route.parameters.iter().any(|parameter| !matches!(parameter.kind, Kind::Anything)) {
        statuses.push(StatusCode::BAD_REQUEST);
    }
    statuses
}

fn query_parameter(parameter: &Parameter) -> Value {
    let Parameter { name, text, kind } = *parameter;
    let (required, schema) = match kind {
        Kind::Number { min, max, required } => {
            (required, json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Kind::Text => (true, json!({ "type": "string" })),
        Kind::Choice(values) => (true, json!({ "type": "string", "enum": values })),
        Kind::Anything => (false, json!({ "type": "string" })),
    };
    json!({ "name": name, "in": "query", "description": text, "required": required, "schema": schema })
}

/// Returns a content type without its parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::table::routes;
    use super::*;

    #[test]
    fn every_route_is_described_once() {
        let document = document(routes());
        let mut described = HashSet::new();
        let mut operations = HashSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                described.insert((path.clone(), method.to_ascii_uppercase()));
                assert!(operations.insert(operation["operationId"].clone()), "{operation}");
            }
        }
        let routes: HashSet<_> =
            routes().iter().map(|route| (route.path.to_owned(), route.method.to_string())).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_is_defined() {
        fn references(value: &Value, found: &mut HashSet<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| match (&**name, value) {
                    ("$ref", Value::String(target)) => drop(found.insert(target.clone())),
                    _ => references(value, found),
                }),
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document(routes());
        let mut found = HashSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for target in found {
            let path = target.strip_prefix('#').unwrap();
            assert!(document.pointer(path).is_some(), "{target}");
        }
    }
}
