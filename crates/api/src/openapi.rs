//! The description of the API (OpenAPI 3.1, whose schemas are JSON Schema 2020-12).

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{Described, Needs, Problem};

/// The document that describes `calls`.
pub fn document(calls: &[Described]) -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths = Map::new();
    for call in calls {
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        path[call.method.as_str().to_lowercase()] =
            operation(call, &mut generator, &problem.clone().into());
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Goldleaf control server", "version": "1" },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "certificate": { "type": "mutualTLS" },
            },
        },
    })
}

fn operation(call: &Described, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut request: Value = (call.request)(generator).into();
    let answer: Value = (call.answer)(generator).into();
    let in_path = call.path_fields();
    let fields = request["properties"].as_object().cloned().unwrap_or_default();
    let is_required = |name: &str| {
        let required = request["required"].as_array();
        required.is_some_and(|required| required.iter().any(|field| field == name))
    };
    let mut parameters = Vec::new();
    for (name, schema) in &fields {
        let is_in_path = in_path.contains(&name.as_str());
        if is_in_path || !call.method.has_body() {
            parameters.push(json!({
                "name": name,
                "in": if is_in_path { "path" } else { "query" },
                "required": is_in_path || is_required(name),
                "schema": schema,
            }));
        }
    }
    let mut operation = json!({
        "operationId": call.name,
        "summary": call.summary,
        "parameters": parameters,
        "security": security(call.needs),
        "responses": {
            "200": {
                "description": "done",
                "content": { "application/json": { "schema": answer } },
            },
            "default": {
                "description": "what is wrong",
                "content": { "application/json": { "schema": problem } },
            },
        },
    });
    if let Needs::Permission(permission) = call.needs {
        operation["x-permission"] = format!("{permission:?}").to_lowercase().into();
    }
    if call.method.has_body() {
        without(&mut request, &in_path);
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": request } } });
    }
    operation
}

/// Takes the fields of the path out of a body.
fn without(request: &mut Value, in_path: &[&str]) {
    if let Some(properties) = request["properties"].as_object_mut() {
        properties.retain(|name, _| !in_path.contains(&name.as_str()));
    }
    if let Some(required) = request["required"].as_array_mut() {
        required.retain(|name| !name.as_str().is_some_and(|name| in_path.contains(&name)));
    }
}

fn security(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!([]),
        Needs::Endpoint => json!([{ "certificate": [] }]),
        Needs::Permission(_) => json!([{ "token": [] }]),
    }
}
