"""Kafka-native marketing attribution: sessions, journeys and credit, exactly once."""
