
import django.db.models.deletion
import p2p_replication.models.replica
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Applying',
            fields=[
                ('id', models.SmallIntegerField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name='ChangeLogEntry',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('stream', models.IntegerField()),
                ('layout', models.IntegerField()),
                ('key', models.TextField()),
                ('operation', models.SmallIntegerField(choices=[(1, 'Insert'), (2, 'Update'), (3, 'Delete'), (4, 'Evict'), (5, 'Adopt')])),
                ('columns', models.BigIntegerField(default=0)),
                ('block', models.SmallIntegerField(default=0)),
                ('wall', models.BigIntegerField()),
                ('transaction', models.BigIntegerField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Declaration',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('model', models.CharField(max_length=200)),
                ('where', models.JSONField(blank=True, default=dict)),
                ('pull', models.JSONField(default=dict, null=True)),
                ('push', models.JSONField(default=dict, null=True)),
                ('source', models.CharField(default='call', max_length=200)),
                ('filter_digest', models.CharField(blank=True, default='', max_length=64)),
                ('vector', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='FieldLayout',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('fields', models.JSONField()),
            ],
        ),
        migrations.CreateModel(
            name='Gap',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(max_length=200)),
                ('opened_at', models.DateTimeField(auto_now_add=True)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='LedgerEntry',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('stream', models.IntegerField()),
                ('key', models.TextField()),
                ('status', models.SmallIntegerField(choices=[(0, 'in the table'), (1, 'deleted'), (2, 'parked'), (3, "outside the pool's filter")], default=0)),
                ('inserted', models.BigIntegerField()),
                ('deleted', models.BigIntegerField(default=-1)),
                ('clock', models.BigIntegerField()),
                ('field_clocks', models.TextField(null=True)),
                ('layout', models.IntegerField()),
                ('origin', models.IntegerField()),
                ('counter', models.BigIntegerField()),
                ('more_dots', models.TextField(null=True)),
                ('own_counter', models.BigIntegerField(default=0)),
                ('born_origin', models.IntegerField()),
                ('born_counter', models.BigIntegerField()),
                ('seq', models.BigIntegerField()),
                ('digest', models.BinaryField(default=b'')),
                ('held', models.BinaryField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Origin',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('origin', models.CharField(max_length=16, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name='Peer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('replica_id', models.CharField(max_length=32, verbose_name='replica')),
                ('public_key', models.CharField(blank=True, default='', max_length=64)),
                ('name', models.CharField(blank=True, default='', max_length=200, verbose_name='name')),
                ('user', models.CharField(blank=True, default='', max_length=200, verbose_name='user')),
                ('state', models.CharField(choices=[('connecting', 'connecting'), ('connected', 'connected'), ('gone', 'gone'), ('refused', 'refused')], default='connecting', max_length=20, verbose_name='state')),
                ('connected_since', models.DateTimeField(blank=True, null=True, verbose_name='connected since')),
                ('last_seen', models.DateTimeField(blank=True, null=True, verbose_name='last seen')),
                ('rows_in', models.BigIntegerField(default=0, verbose_name='rows in')),
                ('rows_out', models.BigIntegerField(default=0, verbose_name='rows out')),
                ('bytes_in', models.BigIntegerField(default=0, verbose_name='bytes in')),
                ('bytes_out', models.BigIntegerField(default=0, verbose_name='bytes out')),
                ('rows_behind', models.BigIntegerField(default=0, verbose_name='rows behind')),
                ('in_sync', models.BooleanField(default=False, verbose_name='in sync')),
                ('last_error', models.CharField(blank=True, default='', max_length=500, verbose_name='last error')),
            ],
            options={
                'verbose_name': 'peer',
                'verbose_name_plural': 'peers',
            },
        ),
        migrations.CreateModel(
            name='PeerProgress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('acknowledged', models.BigIntegerField(default=0)),
                ('rows_behind', models.BigIntegerField(default=0)),
                ('complete', models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name='Pool',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(default='default', max_length=100, verbose_name='account')),
                ('topic', models.CharField(max_length=99, verbose_name='topic')),
                ('connection_handler', models.CharField(default='default', max_length=100, verbose_name='connection handler')),
                ('is_peer_valid', models.CharField(blank=True, default='', max_length=300)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('cancelled_at', models.DateTimeField(blank=True, null=True, verbose_name='cancelled')),
                ('generation', models.IntegerField(default=0)),
                ('lease_holder', models.CharField(blank=True, default='', max_length=64)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('signaling_state', models.CharField(blank=True, default='', max_length=200, verbose_name='signaling')),
            ],
            options={
                'verbose_name': 'pool',
                'verbose_name_plural': 'pools',
            },
        ),
        migrations.CreateModel(
            name='PoolError',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('replica_id', models.CharField(blank=True, default='', max_length=32)),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('count', models.IntegerField(default=1)),
                ('text', models.CharField(max_length=1000)),
            ],
            options={
                'verbose_name': 'error',
                'verbose_name_plural': 'errors',
                'ordering': ['-at'],
            },
        ),
        migrations.CreateModel(
            name='PullCursor',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('replica_id', models.CharField(max_length=32)),
                ('start', models.CharField(max_length=16)),
                ('sequence', models.BigIntegerField(default=0)),
                ('unfinished_since', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Replica',
            fields=[
                ('id', models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ('replica_id', models.CharField(editable=False, max_length=32, unique=True)),
                ('secret_key', p2p_replication.models.replica.SecretKeyField()),
                ('sequence', models.BigIntegerField(default=0, editable=False)),
                ('unsettled_through', models.BigIntegerField(default=0, editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'this replica',
                'verbose_name_plural': 'this replica',
            },
        ),
        migrations.CreateModel(
            name='RoomMember',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('room', models.CharField(db_index=True, max_length=64)),
                ('peer_id', models.CharField(max_length=99)),
                ('channel_name', models.CharField(max_length=200)),
                ('instance', models.CharField(blank=True, default='', max_length=99)),
                ('name', models.CharField(blank=True, default='', max_length=200)),
                ('user', models.CharField(blank=True, default='', max_length=200)),
                ('server', models.CharField(max_length=64)),
                ('joined_at', models.DateTimeField(auto_now_add=True)),
                ('last_seen', models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name='Stream',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('label', models.CharField(max_length=200, unique=True)),
                ('trigger_digest', models.CharField(blank=True, default='', max_length=64)),
                ('own_vector', models.JSONField(default=dict)),
            ],
        ),
        migrations.CreateModel(
            name='DeviceToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, verbose_name='device')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('last_used_at', models.DateTimeField(blank=True, null=True, verbose_name='last used')),
                ('revoked_at', models.DateTimeField(blank=True, null=True, verbose_name='revoked')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'device token',
                'verbose_name_plural': 'device tokens',
            },
        ),
        migrations.CreateModel(
            name='Parking',
            fields=[
                ('entry', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to='p2p_replication.ledgerentry')),
                ('reason', models.CharField(max_length=40)),
                ('detail', models.TextField(blank=True)),
                ('since', models.DateTimeField(auto_now_add=True)),
                ('tries', models.IntegerField(default=1)),
            ],
            options={
                'verbose_name': 'parked row',
                'verbose_name_plural': 'parked rows',
            },
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(fields=['stream', 'seq'], name='p2p_ledger_seq'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('status', 2)), fields=['stream', 'status'], name='p2p_ledger_parked'),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.UniqueConstraint(fields=('stream', 'key'), name='p2p_ledger_key'),
        ),
        migrations.CreateModel(
            name='Start',
            fields=[
                ('origin', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to='p2p_replication.origin')),
                ('first_sequence', models.BigIntegerField()),
                ('started_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.AddField(
            model_name='peerprogress',
            name='declaration',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='progress', to='p2p_replication.declaration'),
        ),
        migrations.AddField(
            model_name='peerprogress',
            name='peer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='progress', to='p2p_replication.peer'),
        ),
        migrations.AddConstraint(
            model_name='pool',
            constraint=models.UniqueConstraint(fields=('account', 'topic'), name='p2p_pool_key'),
        ),
        migrations.AddField(
            model_name='peer',
            name='pool',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='peers', to='p2p_replication.pool'),
        ),
        migrations.AddField(
            model_name='declaration',
            name='pool',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='declarations', to='p2p_replication.pool'),
        ),
        migrations.AddField(
            model_name='poolerror',
            name='pool',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='errors', to='p2p_replication.pool'),
        ),
        migrations.AddField(
            model_name='pullcursor',
            name='declaration',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='cursors', to='p2p_replication.declaration'),
        ),
        migrations.AddConstraint(
            model_name='roommember',
            constraint=models.UniqueConstraint(fields=('room', 'peer_id'), name='p2p_room_member_key'),
        ),
        migrations.AddField(
            model_name='stream',
            name='layout',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='p2p_replication.fieldlayout'),
        ),
        migrations.AddField(
            model_name='gap',
            name='stream',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gaps', to='p2p_replication.stream'),
        ),
        migrations.AddField(
            model_name='fieldlayout',
            name='stream',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='layouts', to='p2p_replication.stream'),
        ),
        migrations.AddConstraint(
            model_name='peerprogress',
            constraint=models.UniqueConstraint(fields=('peer', 'declaration'), name='p2p_progress_key'),
        ),
        migrations.AddConstraint(
            model_name='peer',
            constraint=models.UniqueConstraint(fields=('pool', 'replica_id'), name='p2p_peer_key'),
        ),
        migrations.AddConstraint(
            model_name='declaration',
            constraint=models.UniqueConstraint(fields=('pool', 'model'), name='p2p_declaration_key'),
        ),
        migrations.AddConstraint(
            model_name='pullcursor',
            constraint=models.UniqueConstraint(fields=('declaration', 'replica_id'), name='p2p_cursor_key'),
        ),
        migrations.AddConstraint(
            model_name='gap',
            constraint=models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('stream',), name='p2p_one_open_gap_a_stream'),
        ),
    ]
