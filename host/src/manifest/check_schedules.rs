//! What schedules emit, against the catalogue.

use super::authored::Manifest;
use super::codes;
use super::elements::event;
use super::reader::{At, Quantity as _, Reader};
use super::yaml::quoted;
use crate::model::TypePattern;
use crate::model::spec::Ceilings;

pub(super) fn check(reader: &mut Reader, manifest: &Manifest) {
    for (_, schedule) in &manifest.schedules {
        let emit = &schedule.emit;
        let span = emit.event_type.span.clone();
        if let Ok(value) = TypePattern::new(&emit.event_type.value) {
            super::check::check_catalogue(reader, manifest, &[At { value, span: span.clone() }]);
        }
        let size = manifest.limits.as_ref().and_then(|limits| limits.event_size.as_ref());
        let size = size.map_or(Ceilings::default().event_bytes as u64, |at| at.value.0);
        if let Some(data) = &emit.data
            && data.value.to_string().len() as u64 > size
        {
            let message = format!("the payload is larger than {}", super::elements::size::Bytes(size).show());
            let help = "raise `limits.event-size`, or emit less";
            reader.error(codes::CONTRADICTION, data.span.clone(), message, "", help);
        }
        let declared = manifest.events.iter().find(|(name, _)| name.value == emit.event_type.value);
        let Some(schema) = declared.and_then(|(_, declared)| declared.schema.as_ref()) else { continue };
        let Ok(validator) = event::compile(&schema.document) else { continue };
        let place = emit.data.as_ref().map_or(span, |data| data.span.clone());
        let problem = match &emit.data {
            None => Some("there is no `data`".to_owned()),
            Some(data) => validator.iter_errors(&data.value).next().map(|error| {
                let at = error.instance_path().to_string();
                let at = if at.is_empty() { String::new() } else { format!("at {}: ", quoted(&at)) };
                format!("{at}{}", quoted(&error.to_string()))
            }),
        };
        if let Some(problem) = problem {
            let message = format!("what is emitted is not what the schema of `{}` says", emit.event_type.value);
            let help = format!("correct `data`; the schema is {}", schema.path.display());
            // The value may come from the environment; what is wrong with it is said without quoting it.
            let remark = if reader.source.text.get(place.clone()).is_some_and(|text| text.contains("${")) {
                "does not satisfy the schema".to_owned()
            } else {
                problem
            };
            reader.error(codes::SCHEDULE_DATA, place, message, remark, help);
        }
    }
}
