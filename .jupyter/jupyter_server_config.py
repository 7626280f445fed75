"""JupyterLab's server, with its small messages to the page sent at once.

A moved slider's picture comes right behind the message that the kernel is busy. By default TCP holds a small message
back until the page has acknowledged the one before, which the page's side does up to 40 ms later (200 ms on Windows).
"""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """The server's own connection between kernel and page, without the wait."""

    def connect(self):
        """Connect, and switch Nagle's algorithm off."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


c = get_config()  # noqa: F821 (given by the program that reads this file)
c.ServerApp.kernel_websocket_connection_class = PromptConnection
