"""The one call: a job, its place, binding, becoming the command."""
