# Document 002, line 210.
from async_wrapper import AsyncBroker

async with AsyncBroker("broker.db") as broker:
    await broker.push("myqueue", "Hello async!")
    msg = await broker.pop("myqueue")
