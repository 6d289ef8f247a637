"""Enrolment: second factors turned on and off."""
