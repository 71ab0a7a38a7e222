"""`v2w play`: a page in which visitors step into a world model, and the server behind it.

server      what browsers ask for, checked: the page, thumbnails, recordings, the socket
protocol    what goes over the socket
visitors    who is there, what each of them wants, and where each of them is in the world
worker      the one thread that runs the model, for all visitors who wait at once
starts      where one can begin: the first frames of recorded episodes
controls    what the numbers of an action are, and the keys that press them
"""
