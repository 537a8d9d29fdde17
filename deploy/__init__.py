"""The platform on AWS as code: one module per construct, environments in `environments.yaml`, stacks in `app.py`."""
