"""Sockets: an actor that numbers and keeps what is published, and who is connected to it in this process.

    publish -> turn: numbered, kept -> durable -> frames.py -> outbox of each socket -> its transport

web_socket_hub.py is the actor, sockets.py knows who is connected, hub_socket.py is one connection.
"""
