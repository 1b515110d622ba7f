# Document 002, line 230.
class MyRunner(SQLRunner):
    def run(self, sql, params=(), *, fetch=False):
        # Your implementation
        pass

    def begin_immediate(self):
        # Start transaction
        pass

    def commit(self):
        # Commit transaction
        pass

    def rollback(self):
        # Rollback transaction
        pass

    def close(self):
        # Cleanup
        pass
