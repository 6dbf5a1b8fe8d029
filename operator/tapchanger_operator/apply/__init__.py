"""Makes the world as planned: server-side apply, deletion of what is not planned any more, and the nudge to the routers."""
