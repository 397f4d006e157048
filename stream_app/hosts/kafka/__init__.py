"""The engine on Apache Kafka, inside a Faust app."""
