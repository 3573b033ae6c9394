"""An e-mail campaign that another program starts and follows over HTTP.

    campaign.py   the workflow: `validate-recipients`, then `send-emails`, a step for each mail
    mail.py       how a mail leaves: a real SMTP client, its server an object in `runtime.deps`
    mail_server.py   a mail server for tries: it refuses some and fails now and then
    service.py    the service of it: the runtime behind HTTP
    demo.py       `python -m holdfast.examples.campaign`: all of it, and a client that follows

Needs `holdfast[client,service]` and uvicorn.
"""
