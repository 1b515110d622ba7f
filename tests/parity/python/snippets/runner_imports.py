# Document 002, line 225.
from simplebroker.ext import SQLRunner, OperationalError, IntegrityError
