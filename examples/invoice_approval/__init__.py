"""An invoice on its way to be paid: submitted, checked, approved by one or two people, booked; or not.

    draft --Submit--> submitted --checks, Approve (twice above the limit)--> approved, booked
      |                   |------ Reject, a failed check --> rejected, budget given back
      '--- 30 days        '------ 7 days, a reminder, 7 days more
            '--> expired           '--> expired, budget given back

records.py    the invoice, the events that people send, what comes out
finance.py    the actors: budgets that are reserved and released, the ledger, the outbox of reminders
approvers.py  who may approve what: an object of the application's own, found in `runtime.deps`
workflow.py   `InvoiceApproval`
demo.py       `python -m holdfast.examples.invoice_approval`: three invoices, three ways
"""
