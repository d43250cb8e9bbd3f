"""Measurements that need packages of the tests alone."""
